// Moved to `core/lib/cidr.ts`, so that plugins can use it too. Kept until nobody imports it from here.
export * from '../lib/cidr.ts';
