// Keeps few databases open at a time, however many users there are: each costs three descriptors.

interface Closable {
  close(): void;
}

export interface IndexPool {
  opened(index: Closable): void;
  closed(index: Closable): void;
}

export function createIndexPool(limit: number): IndexPool {
  const open = new Set<Closable>();
  return {
    opened(index) {
      for (const oldest of open) {
        if (open.size < limit) break;
        oldest.close();
      }
      open.add(index);
    },
    closed: index => void open.delete(index),
  };
}
