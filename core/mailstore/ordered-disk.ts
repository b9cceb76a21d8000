// Which file systems keep the order that `staging.ts` rests on: once a new file is synced its name is durable with it, and
// a rename across directories survives a power cut whole or not at all. Both come from a metadata journal with one
// transaction for all that a system call changes. Where that cannot be told for certain the answer is no.
import { readFileSync, statfsSync, statSync } from 'node:fs';

const xfs = 0x58465342;
/** ext2, ext3 and ext4 share a number; one without a journal promises nothing. */
const ext4 = 0xef53;

/** `major:minor` of a device number, as the kernel writes it (Linux `new_decode_dev`). */
const deviceName = (device: number): string =>
  `${(device >>> 8) & 0xfff}:${(device & 0xff) | ((device >>> 12) & 0xfff00)}`;

/** The device that is mounted there, such as `vda1`; undefined where it is none or data may be older than its metadata. */
function orderedDevice(device: number): string | undefined {
  const wanted = deviceName(device);
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find(each => each.split(' ', 3)[2] === wanted);
  const [, source, options] = line?.split(' - ')[1]?.split(' ') ?? [];
  if (options?.includes('data=writeback')) return undefined;
  return source?.startsWith('/dev/') ? source.slice(source.lastIndexOf('/') + 1) : undefined;
}

export function keepsOrder(folder: string): boolean {
  try {
    const { type } = statfsSync(folder);
    if (type === xfs) return true;
    if (type !== ext4) return false;
    const name = orderedDevice(statSync(folder).dev);
    // The process that commits the journal; `<none>` where there is no journal.
    return name !== undefined && /^\d+\s*$/.test(readFileSync(`/sys/fs/ext4/${name}/journal_task`, 'latin1'));
  } catch {
    return false;
  }
}
