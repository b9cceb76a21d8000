// The boundaries of all multiparts that are open at a point of a message, as a trie, so that a line is compared with
// all of them in one pass however many there are. RFC 2046 §5.1.1, §5.1.2.

interface Node {
  readonly next: Map<number, Node>;
  /** Depths of the open multiparts with this boundary, outermost first. */
  readonly owners: number[];
}

export interface Delimiter {
  /** Depth of the multipart it belongs to: the innermost with that boundary. */
  readonly owner: number;
  readonly close: boolean;
  /** The whole line is the delimiter; otherwise other text follows it. */
  readonly exact: boolean;
}

const DASH = 0x2d;

const newNode = (): Node => ({ next: new Map(), owners: [] });

/** Is there nothing but white space (transport padding, line end) from `at` to `end`? */
function isPadding(bytes: Buffer, at: number, end: number): boolean {
  for (let next = at; next < end; next++) {
    const byte = bytes[next] as number;
    if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d && byte !== 0x0a) return false;
  }
  return true;
}

export class BoundarySet {
  readonly #root = newNode();
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  add(boundary: Buffer, owner: number): void {
    let node = this.#root;
    for (const byte of boundary) {
      let next = node.next.get(byte);
      if (!next) {
        next = newNode();
        node.next.set(byte, next);
      }
      node = next;
    }
    node.owners.push(owner);
    this.#count++;
  }

  /** Takes back the latest `add` of that boundary. */
  remove(boundary: Buffer): void {
    const path: Node[] = [this.#root];
    for (const byte of boundary) {
      const next = path.at(-1)?.next.get(byte);
      if (!next) return;
      path.push(next);
    }
    path.at(-1)?.owners.pop();
    this.#count--;
    for (let depth = boundary.length; depth > 0; depth--) {
      const node = path[depth];
      if (!node || node.owners.length > 0 || node.next.size > 0) return;
      path[depth - 1]?.next.delete(boundary[depth - 1] as number);
    }
  }

  /**
   * What the line `bytes[start..end)` is. A line that is exactly a delimiter wins over one that only begins with
   * another boundary; among equals the longest boundary wins. RFC 2046 §5.1.2 makes the beginning of the line enough.
   */
  match(bytes: Buffer, start: number, end: number): Delimiter | undefined {
    if (bytes[start] !== DASH || bytes[start + 1] !== DASH || end - start < 3) return undefined;
    let best: Delimiter | undefined;
    let node: Node | undefined = this.#root;
    for (let at = start + 2; node; at++) {
      const owner = node.owners.at(-1);
      if (owner !== undefined) {
        const close = bytes[at] === DASH && bytes[at + 1] === DASH && at + 2 <= end;
        const exact = isPadding(bytes, close ? at + 2 : at, end);
        if (exact || !best?.exact) best = { owner, close, exact };
      }
      if (at >= end) break;
      node = node.next.get(bytes[at] as number);
    }
    return best;
  }
}
