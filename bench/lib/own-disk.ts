// A file system of its own for each contestant and each run, in a file, mounted by loop device. On ext4 the numbers of
// recently deleted inodes are passed over for minutes, and every create searches past them: what one contestant deletes
// (a queue file per message, say) would make the next one slow. Needs root; without it, a plain folder.
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync } from 'node:fs';

const imageBytes = 6 * 1024 ** 3;

const ok = (command: string, ...args: readonly string[]): boolean =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

export interface OwnDisk {
  /** False: a plain folder. */
  readonly separate: boolean;
  /** Empties it by making it anew. */
  renew(): void;
  remove(): void;
}

export function ownDisk(folder: string): OwnDisk {
  const image = `${folder}.img`;
  const mount = (): boolean => {
    closeSync(openSync(image, 'w'));
    const file = openSync(image, 'r+');
    ftruncateSync(file, imageBytes);
    closeSync(file);
    mkdirSync(folder, { recursive: true });
    return ok('mkfs.ext4', '-q', '-F', image) && ok('mount', '-o', 'loop', image, folder);
  };
  const unmount = (): void => {
    ok('umount', folder);
    rmSync(image, { force: true });
  };
  const separate = mount();
  if (!separate) unmount();
  return {
    separate,
    renew() {
      if (separate) {
        unmount();
        if (!mount()) throw new Error(`Cannot mount ${image} again`);
      } else {
        rmSync(folder, { recursive: true, force: true });
        mkdirSync(folder, { recursive: true });
      }
    },
    remove() {
      if (separate) unmount();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
