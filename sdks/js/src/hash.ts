/** The hash contract (vectors/assignment.json): SHA-256 over parts with their lengths, its first 8 bytes as an integer. */

const ROUNDS = 64;
const constants: number[] = [];
const initial: number[] = [];
for (let number = 2; constants.length < ROUNDS; number++) {
  let divisor = 2;
  while (number % divisor) divisor++;
  if (divisor < number) continue;
  // FIPS 180-4: the first 32 bits of the fractional parts of the roots of the first primes.
  if (initial.length < 8) initial.push(fraction(Math.sqrt(number)));
  constants.push(fraction(Math.cbrt(number)));
}

function fraction(root: number): number {
  return ((root - Math.floor(root)) * 2 ** 32) | 0;
}

/** The first 8 bytes of SHA-256 as an unsigned integer. Ours, because the one of browsers cannot be asked at once. */
function digest(message: Uint8Array): bigint {
  const padded = new Uint8Array(((message.length + 72) >> 6) << 6);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, message.length * 8);
  const state = [...initial];
  const words = new Int32Array(ROUNDS);
  for (let block = 0; block < padded.length; block += 64) {
    let [a, b, c, d, e, f, g, h] = state as [number, number, number, number, number, number, number, number];
    for (let round = 0; round < ROUNDS; round++) {
      if (round < 16) {
        words[round] = view.getInt32(block + round * 4);
      } else {
        const early = words[round - 15]!, late = words[round - 2]!;
        words[round] = words[round - 16]! + words[round - 7]!
          + (turn(early, 7) ^ turn(early, 18) ^ (early >>> 3)) + (turn(late, 17) ^ turn(late, 19) ^ (late >>> 10));
      }
      const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + constants[round]! + words[round]!) | 0;
      const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((value, place) => (state[place] = (state[place]! + value) | 0));
  }
  return (BigInt(state[0]! >>> 0) << 32n) | BigInt(state[1]! >>> 0);
}

function turn(word: number, by: number): number {
  return (word >>> by) | (word << (32 - by));
}

const encoder = new TextEncoder();

/** An unsigned 64-bit hash of the parts, each with its length in bytes before it. */
export function hash64(...parts: string[]): bigint {
  const encoded = parts.map((part) => encoder.encode(part));
  const message = new Uint8Array(encoded.reduce((length, part) => length + 4 + part.length, 0));
  let at = 0;
  for (const part of encoded) {
    new DataView(message.buffer).setUint32(at, part.length);
    message.set(part, at + 4);
    at += 4 + part.length;
  }
  return digest(message);
}

/** The slice among `total` that a 64-bit value falls into: multiply and shift. */
export function bucket(value: bigint, total: number): number {
  return Number((value * BigInt(total)) >> 64n);
}

/** The index of the weight whose range holds the value's bucket. */
export function choose(weights: readonly number[], value: bigint): number {
  let point = bucket(value, weights.reduce((sum, weight) => sum + weight, 0));
  return weights.findIndex((weight) => (point -= weight) < 0);
}
