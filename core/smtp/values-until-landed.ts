// Stands in until the values land.
import { renderField } from '../mail/header-edit.ts';
export const formatDate = (ms: number): string => new Date(ms).toUTCString().replace('GMT', '+0000');
export const formatMessageId = (unique: string, hostname: string): string => `<${unique}@${hostname}>`;
export function receivedField(f: {
  readonly helo: string;
  readonly remote: { readonly address: string; readonly name?: string };
  readonly hostname: string;
  readonly protocol: unknown;
  readonly tls?: unknown;
  readonly id: string;
  readonly recipient?: string;
  readonly at: number;
}): Buffer {
  return renderField(
    'Received',
    `from ${f.helo} ([${f.remote.address}])\r\n\tby ${f.hostname} with ESMTP id ${f.id};\r\n\t${formatDate(f.at)}`,
  );
}
