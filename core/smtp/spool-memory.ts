// Memory that messages above the free allowance share while they arrive and are decided. What it cannot give goes to a
// spool file instead, so that the memory of all sessions together is bounded: connections × allowance + this.
export interface SpoolMemory {
  /** False, and nothing is taken, where that much is not left. */
  take(bytes: number): boolean;
  give(bytes: number): void;
}

export function createSpoolMemory(capacityBytes: number): SpoolMemory {
  let left = capacityBytes;
  return {
    take(bytes) {
      if (bytes > left) return false;
      left -= bytes;
      return true;
    },
    give(bytes) {
      left += bytes;
    },
  };
}
