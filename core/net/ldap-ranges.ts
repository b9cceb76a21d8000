// Attributes with more values than Active Directory gives at once (MaxValRange, 1,500 as shipped): `a;range=0-1499` comes
// in place of `a`, and the rest has to be asked for as `a;range=1500-*`, until an answer ends in `*` ([MS-ADTS]
// 3.1.1.3.1.3.3). A piece that does not follow the one before, or no end in sight, is an error: half a list of addresses
// would turn the other half into unknown recipients.

/** What a server says of one entry: attribute, with its options, → values. */
export type RawAttributes = Readonly<Record<string, readonly (string | Buffer)[]>>;

/** Most questions for one attribute: 1.5 million values with the limit as shipped. */
const maxPieces = 1_000;

interface Piece {
  /** The attribute without the option. */
  readonly name: string;
  readonly low: number;
  /** Undefined: `*`, this is the last. */
  readonly high: number | undefined;
  readonly values: readonly (string | Buffer)[];
}

function pieceOf(attribute: string, values: Piece['values']): Piece | undefined {
  const [option, low, high] = /;range=(\d{1,9})-(\d{1,9}|\*)(?=;|$)/i.exec(attribute) ?? [];
  if (option === undefined) return undefined;
  return {
    name: attribute.replace(option, ''),
    low: Number(low),
    high: high === '*' ? undefined : Number(high),
    values,
  };
}

const follows = ({ low, high, values }: Piece, from: number): boolean =>
  low === from && values.length > 0 && (high === undefined || values.length === high - low + 1);

/**
 * All values of all attributes, by name in lower case. `ask` reads one attribute of the same entry again.
 * Rejects where the server contradicts itself or comes to no end.
 */
export async function completeRanges(
  dn: string,
  attributes: RawAttributes,
  ask: (attribute: string) => Promise<RawAttributes | undefined>,
): Promise<ReadonlyMap<string, readonly (string | Buffer)[]>> {
  const complete = new Map<string, readonly (string | Buffer)[]>();
  for (const [attribute, values] of Object.entries(attributes)) {
    const first = pieceOf(attribute, values);
    if (first) complete.set(first.name.toLowerCase(), await allPieces(dn, first, ask));
    // The attribute itself may stand beside its range, without values.
    else if (!complete.has(attribute.toLowerCase())) complete.set(attribute.toLowerCase(), values);
  }
  return complete;
}

async function allPieces(
  dn: string,
  first: Piece,
  ask: (attribute: string) => Promise<RawAttributes | undefined>,
): Promise<Piece['values']> {
  const all: (string | Buffer)[] = [];
  let from = 0;
  let piece: Piece | undefined = first;
  for (let count = 1; ; count++) {
    if (!piece || !follows(piece, from))
      throw new Error(`The server gives no values of ${first.name} from ${from} on for ${dn}`);
    for (const value of piece.values) all.push(value);
    if (piece.high === undefined) return all;
    if (count >= maxPieces) throw new Error(`The server comes to no end of ${first.name} for ${dn}`);
    from = piece.high + 1;
    const answer: RawAttributes = (await ask(`${first.name};range=${from}-*`)) ?? {};
    piece = Object.entries(answer)
      .map(([attribute, values]) => pieceOf(attribute, values))
      .find(each => each?.name.toLowerCase() === first.name.toLowerCase());
  }
}
