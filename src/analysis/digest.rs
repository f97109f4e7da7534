//! BLAKE3 of rows. The only file that imports `blake3`.
//!
//! BLAKE3 hashes chunks of 1,024 bytes, several at a time, then pairs of their values up to the root.
//! A row has few chunks, so that one row at a time leaves most of a vector empty. Rows of a matrix
//! are all of one length: here each lane of the vector takes a row of its own.

mod in_step;

pub use in_step::InStep;

use blake3::platform::{self, MAX_SIMD_DEGREE, Platform};
use blake3::{BLOCK_LEN, CHUNK_LEN, IncrementCounter, OUT_LEN};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// The BLAKE3 hash of a row's bytes: 256 bits, so that two different rows with the same digest are
/// not to be found, by chance or by intent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digests of rows that lie one after another: [`of`](Self::of) each, but several at a time.
    /// A row has at least one byte.
    pub fn of_rows(bytes: &[u8], row_bytes: usize) -> Vec<Self> {
        Self::of_rows_on(Platform::detect(), bytes, row_bytes.max(1))
    }

    fn of_rows_on(platform: Platform, bytes: &[u8], row_bytes: usize) -> Vec<Self> {
        let mut lanes = Lanes::new(platform, row_bytes);
        let mut digests = Vec::with_capacity(bytes.len() / row_bytes);
        for rows in bytes.chunks(lanes.rows_at_a_time() * row_bytes) {
            let side_by_side = lanes.side_by_side(rows.len() / row_bytes);
            let (rows, alone) = rows.split_at(side_by_side * row_bytes);
            digests.extend(lanes.hash(rows).iter().copied().map(Self));
            digests.extend(alone.chunks_exact(row_bytes).map(Self::of));
        }
        digests
    }

    /// The digest over many digests, in their order.
    pub fn of_all(digests: &[Self]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::with_capacity(OUT_LEN * DIGESTS_AT_A_TIME.min(digests.len()));
        for digests in digests.chunks(DIGESTS_AT_A_TIME) {
            bytes.clear();
            bytes.extend(digests.iter().flat_map(|digest| digest.0));
            hasher.update(&bytes);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The placeholder for a row that has not been seen.
    pub(super) const UNSEEN: Self = Self([0; 32]);

    /// The first eight bytes, which spread evenly: the key of a hash table.
    pub(super) fn key(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// The first twelve hex digits, by which a group is called.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// So many are gathered before they are hashed: enough for the hasher's own vectors.
const DIGESTS_AT_A_TIME: usize = 2048;

/// What BLAKE3 starts from, and its flags, by their names in its specification.
const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;

/// The value of a chunk, or of the pairs above it.
type Value = [u8; OUT_LEN];

/// Bytes of rows whose values wait for the level above them, and how many vectors of rows at most. A pair
/// that was written just now is slow to read, and while it is waited for no memory is asked for: from memory
/// rows of 2 and of 4 kB take 7 % longer one vector at a time.
const WAITING: usize = 512 << 10;
const MOST_VECTORS: usize = 8;

/// Rows side by side, one in each lane of the platform's vector.
struct Lanes {
    platform: Platform,
    count: usize,
    row_bytes: usize,
    chunks: usize,
    /// Of the first chunk of each row, then of the second of each, and so on.
    values: Vec<Value>,
}

impl Lanes {
    fn new(platform: Platform, row_bytes: usize) -> Self {
        Self {
            platform,
            count: platform.simd_degree(),
            row_bytes,
            chunks: row_bytes.div_ceil(CHUNK_LEN),
            values: Vec::new(),
        }
    }

    /// How many rows go up the tree together.
    fn rows_at_a_time(&self) -> usize {
        self.count * (WAITING / (self.count * self.row_bytes)).clamp(1, MOST_VECTORS)
    }

    /// How many of so many rows are to be hashed side by side. Those that leave lanes empty have to be
    /// some. Fewer are faster one at a time, the sooner the more chunks they have, because chunks of one
    /// row fill lanes too; and a single lane is no vector.
    fn side_by_side(&self, rows: usize) -> usize {
        let least = (self.count / 4 + self.chunks).min(self.count * 3 / 4).max(2);
        match rows % self.count {
            _ if self.count < least => 0,
            rest if rest < least => rows - rest,
            _ => rows,
        }
    }

    /// The digests of at most as many rows as there are to be at a time.
    fn hash(&mut self, rows: &[u8]) -> &[Value] {
        let (count, present) = (self.count, rows.len() / self.row_bytes);
        let across = present.next_multiple_of(count);
        let values = self.chunks * across;
        if self.values.len() < values {
            self.values.resize(values, [0; OUT_LEN]);
        }
        for (rows, first) in rows.chunks(count * self.row_bytes).zip((0..).step_by(count)) {
            for chunk in 0..self.chunks {
                let from = chunk * CHUNK_LEN;
                let to = self.row_bytes.min(from + CHUNK_LEN);
                // Lanes without a row repeat the last: a full vector is faster than narrower ones.
                let last = rows.len() - self.row_bytes;
                let parts: [&[u8]; MAX_SIMD_DEGREE] = std::array::from_fn(|lane| {
                    let at = last.min(lane * self.row_bytes);
                    &rows[at + from..at + to]
                });
                let end = if self.chunks == 1 { CHUNK_END | ROOT } else { CHUNK_END };
                let values = &mut self.values[chunk * across + first..][..count];
                hash_chunks(self.platform, &parts[..count], chunk as u64, end, values);
            }
        }
        let mut left = self.chunks;
        while left > 1 {
            left = self.pair(left, across);
        }
        &self.values[..present]
    }

    /// One level of the tree: of so many values a row, each two become one, and an odd one stays.
    /// How many are left.
    fn pair(&mut self, values: usize, across: usize) -> usize {
        let (count, parents) = (self.count, values / 2);
        let flags = if values == 2 { PARENT | ROOT } else { PARENT };
        for parent in 0..parents {
            for lane in (0..across).step_by(count) {
                let of = |value: usize| &self.values[value * across + lane..][..count];
                let mut pairs = [[[0; OUT_LEN]; 2]; MAX_SIMD_DEGREE];
                let two = of(2 * parent).iter().zip(of(2 * parent + 1));
                for (pair, (&first, &second)) in pairs.iter_mut().zip(two) {
                    *pair = [first, second];
                }
                let blocks: [&[u8; BLOCK_LEN]; MAX_SIMD_DEGREE] =
                    std::array::from_fn(|lane| &pairs[lane].as_flattened().as_chunks().0[0]);
                // In the place of values that are in pairs by now.
                let out = self.values[parent * across + lane..][..count].as_flattened_mut();
                let counter = IncrementCounter::No;
                self.platform.hash_many(&blocks[..count], &IV, 0, counter, flags, 0, 0, out);
            }
        }
        self.values.copy_within(2 * parents * across..values * across, parents * across);
        values - parents
    }
}

/// The values of one chunk of each row; all are of one length, at most a chunk's.
fn hash_chunks(platform: Platform, parts: &[&[u8]], chunk: u64, end: u8, values: &mut [Value]) {
    let length = parts[0].len();
    let (blocks, rest) = (length / BLOCK_LEN, length % BLOCK_LEN);
    let whole = Whole { platform, chunk, end: if rest == 0 { end } else { 0 } };
    // The lengths are types to `hash_many`.
    match blocks {
        0 => {}
        1 => whole.hash::<64>(parts, values),
        2 => whole.hash::<128>(parts, values),
        3 => whole.hash::<192>(parts, values),
        4 => whole.hash::<256>(parts, values),
        5 => whole.hash::<320>(parts, values),
        6 => whole.hash::<384>(parts, values),
        7 => whole.hash::<448>(parts, values),
        8 => whole.hash::<512>(parts, values),
        9 => whole.hash::<576>(parts, values),
        10 => whole.hash::<640>(parts, values),
        11 => whole.hash::<704>(parts, values),
        12 => whole.hash::<768>(parts, values),
        13 => whole.hash::<832>(parts, values),
        14 => whole.hash::<896>(parts, values),
        15 => whole.hash::<960>(parts, values),
        _ => whole.hash::<CHUNK_LEN>(parts, values),
    }
    if rest == 0 {
        return;
    }
    // A block that is not full has no lanes to go into.
    for (part, value) in parts.iter().zip(values) {
        let (mut words, flags) = match blocks {
            0 => (IV, CHUNK_START | end),
            _ => (platform::words_from_le_bytes_32(value), end),
        };
        let mut block = [0; BLOCK_LEN];
        block[..rest].copy_from_slice(&part[length - rest..]);
        platform.compress_in_place(&mut words, &block, rest as u8, chunk, flags);
        *value = platform::le_bytes_from_words_32(&words);
    }
}

/// The whole blocks of one chunk of each row.
struct Whole {
    platform: Platform,
    chunk: u64,
    /// What is said with the last of them.
    end: u8,
}

impl Whole {
    fn hash<const N: usize>(&self, parts: &[&[u8]], values: &mut [Value]) {
        let mut inputs = [&[0; N]; MAX_SIMD_DEGREE];
        for (input, part) in inputs.iter_mut().zip(parts) {
            *input = &part.as_chunks().0[0];
        }
        let (inputs, out) = (&inputs[..parts.len()], values.as_flattened_mut());
        let counter = IncrementCounter::No;
        self.platform.hash_many(inputs, &IV, self.chunk, counter, 0, CHUNK_START, self.end, out);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a digest is 64 hex digits";
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| WRONG)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every platform of `hash_many` that this machine has.
    fn platforms() -> Vec<Platform> {
        let mut platforms = vec![Platform::portable(), Platform::detect()];
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        platforms.extend([Platform::sse2(), Platform::sse41(), Platform::avx2()].iter().flatten());
        platforms
    }

    /// Bytes of which no two stretches are alike.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    /// Rows of this width, so many at a time, hashed side by side on every platform.
    fn check(noise: &[u8], width: usize, counts: &[usize]) {
        let most = counts.iter().max().unwrap();
        let alone: Vec<Digest> = noise.chunks_exact(width).take(*most).map(Digest::of).collect();
        for platform in platforms() {
            for &count in counts {
                let rows = &noise[..count * width];
                assert!(
                    Digest::of_rows_on(platform, rows, width) == alone[..count],
                    "{count} rows of {width} bytes on {platform:?}"
                );
            }
        }
    }

    #[test]
    fn rows_side_by_side_have_the_digests_of_rows_alone() {
        let noise = noise(150 * 20_480);
        let counts = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 127, 150];
        for width in (64..=20_480).step_by(64) {
            check(&noise, width, &counts);
        }
        // What is no multiple of a block, every width up to a few blocks, then around the seams.
        let odd = (1..200).chain((200..5_000).step_by(13));
        let seams =
            (1_024..5_000).step_by(1_024).flat_map(|chunk| [chunk - 1, chunk + 1, chunk + 63]);
        for width in odd.chain(seams) {
            check(&noise, width, &[1, 4, 7, 16, 21]);
        }
    }

    #[test]
    fn a_row_of_many_chunks_has_the_digest_of_the_row_alone() {
        let noise = noise(64 << 20);
        for width in [48 << 10, 65_537, 100_000, 1 << 20, (1 << 20) + 1_024, (1 << 20) + 12_345] {
            check(&noise, width, &[1, 3, 4, 9, 16, 19]);
        }
        // The widest rows there are: 2^14 chunks.
        for width in [(16 << 20) - 1_000, 16 << 20] {
            check(&noise, width, &[1, 4]);
        }
    }

    #[test]
    fn the_digest_over_digests_does_not_depend_on_the_pieces() {
        for count in [0, 1, DIGESTS_AT_A_TIME - 1, DIGESTS_AT_A_TIME, 2 * DIGESTS_AT_A_TIME + 5] {
            let digests = Digest::of_rows(&noise(3 * count), 3);
            let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
            assert_eq!(Digest::of_all(&digests), Digest::of(&bytes));
        }
    }

    #[test]
    fn a_digest_is_blake3_in_hex_and_back() {
        // The official test vector of the empty input.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").short(), "af1349b9f5f9");
        assert!("af".parse::<Digest>().is_err());
        assert!(format!("{}é", &empty[..62]).parse::<Digest>().is_err());
    }
}
