//! Rows to lengths: the norm of each row, the rows that are special, and the mean of all.
//!
//! Kept per row: eight bytes of norm. Beside these, column sums of eight bytes an element, rounded up
//! to eight elements: one set for each block at work, and for each run of rows that is behind it two
//! sets for each doubling of its length, at worst. With n streams there are at most n + 1 such runs;
//! of a matrix of 150,000 rows that is read in order about a dozen sets are held, half a megabyte at
//! 4,096 columns. Where rows come so that a tile's are out of order, which no
//! [`Plan`](crate::scan::Plan) does, their bytes wait until their turn.
//!
//! The finding is the same to the last bit in whatever order rows come: a norm is of one row; column
//! sums are taken over [tiles](rows::tile_rows), row by row, and tiles are added up two by two, these
//! pairs two by two again, by their place in the matrix and nothing else. Where sums are exact, as those of
//! [whole numbers](super::whole) are, their order is free: then each block's are added to one set.

use super::Analysis;
use super::element::{Elements, LANES, power_of_two, tree};
use super::spread::{Spread, sum};
use super::whole;
use crate::checkpoint::Dtype;
use crate::error::{Error, Result};
use crate::head::Numbers;
use crate::observe::{Event, Observer, Silent};
use crate::rows::{self, RowBlock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, TryReserveError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A row that is not zero is near zero if no element's magnitude is above this.
///
/// Rows of trained vocabulary have magnitudes from 1e-4 to 1; rows that an optimizer's decay has
/// shrunk without end, 1e-20 (of Llama 3.1's some are at 2e-21). In between, and on the safe side: a
/// row below this adds less to any logit than single precision tells apart beside 1, even for a hidden
/// state a million long. The smallest numbers of the types of 16 bits and less are not near zero, but for
/// those of BF16 and E8M0.
pub const NEAR_ZERO: f64 = 1e-16;

/// The most columns: several sums are kept for each. The widest heads known have some 30,000.
const MAX_COLUMNS: u64 = 1 << 20;

/// The ends, the middles and the spread of some rows' norms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NormSummary {
    /// How many rows these are of: those asked for whose norms are finite.
    pub rows: u64,
    /// The smallest norm.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The norm in the middle; of an even number of them, half way between the two.
    pub median: f64,
    /// The largest norm.
    pub max: f64,
    /// The standard deviation of these rows as a whole population: the sum of squares is divided by
    /// their number, not by one less.
    pub sd: f64,
}

/// Norms, counted in bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The smallest norm, where the first bin begins.
    pub min: f64,
    /// The largest norm, where the last bin ends.
    pub max: f64,
    /// Rows of each bin. A bin has its lower edge and not its upper one, but for the last, which has
    /// both; where all norms are the same, they are in the last bin.
    pub bins: Vec<u64>,
}

/// How far a vector reaches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    /// The square root of the sum of its squares.
    pub l2: f64,
    /// The largest magnitude.
    pub linf: f64,
    /// The sum of the magnitudes.
    pub l1: f64,
}

impl Reach {
    /// Of a vector; of none, zero.
    pub fn of(vector: &[f64]) -> Self {
        let magnitudes: Vec<f64> = vector.iter().map(|v| v.abs()).collect();
        let linf = magnitudes.iter().copied().fold(0.0, f64::max);
        Self { l2: scaled_norm(vector, linf), linf, l1: sum(&magnitudes) }
    }
}

/// The rows that are unlike others, each list ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Special {
    /// Rows whose every element is +0 or −0.
    pub zero: Vec<u64>,
    /// Other rows whose every element's magnitude is at most [`NEAR_ZERO`].
    pub near_zero: Vec<u64>,
    /// Rows that hold a NaN.
    pub nan: Vec<u64>,
    /// Rows that hold an infinity; they may hold a NaN as well.
    pub infinite: Vec<u64>,
}

/// What was found about the lengths of one matrix's rows.
///
/// A row is finite if its norm is. One that holds a NaN or an infinity is not, nor is one of F64 whose
/// norm is beyond the largest `f64`; such rows are in no summary and not in the centroid.
#[derive(Debug, Clone, PartialEq)]
pub struct RowProfile {
    /// The L2 norm of each row: NaN for one that holds a NaN, else infinite for one that holds an
    /// infinity.
    pub norms: Vec<f64>,
    /// The rows that are unlike others.
    pub special: Special,
    /// The mean of the finite rows; of complex numbers the real and the imaginary parts in turn.
    /// Empty if no row is finite, or if their sum is beyond the largest `f64`.
    pub centroid: Vec<f64>,
    /// Rows whose norm is finite.
    pub finite_rows: u64,
}

impl RowProfile {
    /// The norms of some rows, each counted as often as it is named; `None` if none is finite. Rows
    /// that the matrix does not have are passed over.
    pub fn summary(&self, rows: impl IntoIterator<Item = u64>) -> Option<NormSummary> {
        let norm = |row| self.norms.get(usize::try_from(row).ok()?).copied();
        let mut norms: Vec<f64> =
            rows.into_iter().filter_map(norm).filter(|norm| norm.is_finite()).collect();
        let Spread { min, median, mean, max } = Spread::of(&mut norms)?;
        let rows = norms.len();
        let largest = (max - mean).max(mean - min);
        let scale = scale_of_squares(largest);
        norms.iter_mut().for_each(|norm| *norm = ((*norm - mean) * scale).powi(2));
        let sd = (sum(&norms) / rows as f64).sqrt() / scale;
        Some(NormSummary { rows: rows as u64, min, mean, median, max, sd })
    }

    /// The norms of all rows; `None` if none is finite.
    pub fn whole(&self) -> Option<NormSummary> {
        self.summary(0..self.norms.len() as u64)
    }

    /// The norms of all rows in so many bins, at least one; `None` if none is finite.
    pub fn histogram(&self, bins: usize) -> Option<Histogram> {
        let mut norms: Vec<f64> = self.norms.iter().copied().filter(|n| n.is_finite()).collect();
        norms.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (norms.first()?, norms.last()?);
        let bins = bins.max(1);
        let width = (max - min) / bins as f64;
        let mut counted = 0;
        let mut count = |edge: usize| {
            let below = match edge {
                edge if edge == bins => norms.len(),
                edge => norms.partition_point(|&norm| norm < min + edge as f64 * width),
            };
            let here = below.saturating_sub(counted);
            counted = counted.max(below);
            here as u64
        };
        Some(Histogram { min, max, bins: (1..=bins).map(&mut count).collect() })
    }

    /// How far the centroid is from the origin; `None` if there is none.
    pub fn centroid_reach(&self) -> Option<Reach> {
        (!self.centroid.is_empty()).then(|| Reach::of(&self.centroid))
    }
}

/// Takes the norms of rows and their mean. Forks share one store, locked a few times for each block.
pub struct Profile {
    elements: Elements,
    rows: u64,
    /// Elements of a row, as they are read: two for each complex number.
    columns: usize,
    row_bytes: usize,
    /// Where columns are summed up in whole numbers, those of the block at work.
    whole: Option<whole::Sums>,
    observer: Arc<dyn Observer>,
    store: Arc<Mutex<Store>>,
}

/// One sum for each column, the columns filled up to whole eights.
type Sums = Vec<[f64; LANES]>;

/// What has been seen so far.
struct Store {
    seen: u64,
    norms: Vec<f64>,
    special: Special,
    /// Tiles of which some rows have been summed up and nobody is at work, by number.
    open: BTreeMap<u64, Open>,
    /// Rows that came before those in front of them in their tile, by the first.
    waiting: BTreeMap<u64, Vec<u8>>,
    /// Sums over 2^level tiles whose neighbours' are not known, by level and place.
    merged: BTreeMap<(u32, u64), Sums>,
    /// Sums of columns that are exact, so that their order does not matter; then the three above are empty.
    exact: Vec<f64>,
}

impl Special {
    /// Tells of rows that are zero or not finite.
    pub(crate) fn tell(&self, observer: &dyn Observer) {
        self.zero.iter().for_each(|&row| observer.event(&Event::Zero { row }));
        // Of a row with both, the NaN is told.
        let infinite = self.infinite.iter().filter(|row| self.nan.binary_search(row).is_err());
        self.nan.iter().chain(infinite).for_each(|&row| observer.event(&Event::NonFinite { row }));
    }
}

/// A tile of which some rows have been summed up.
struct Open {
    next_row: u64,
    sums: Sums,
}

impl Profile {
    /// A profile of a matrix of that size; the memory for its norms is claimed here.
    pub fn new(rows: u64, columns: u64, numbers: impl Into<Numbers>) -> Result<Self> {
        let usage = |what: String| Error::Usage { what };
        let numbers = numbers.into();
        let Some(elements) = Elements::of(&numbers) else {
            return Err(usage(format!("rows of {numbers:?} have no norm")));
        };
        if columns == 0 || columns > MAX_COLUMNS {
            let what = format!("{columns} columns cannot be profiled, but 1 to {MAX_COLUMNS}");
            return Err(usage(what));
        }
        let row_bytes = numbers.row_bytes(columns).and_then(|bytes| usize::try_from(bytes).ok());
        let Some(row_bytes) = row_bytes else {
            let what = format!("a row of {columns} {numbers:?} is no whole number of bytes");
            return Err(usage(what));
        };
        let claim = || -> Result<Vec<f64>, TryReserveError> {
            let count = usize::try_from(rows).unwrap_or(usize::MAX);
            let mut norms = Vec::new();
            norms.try_reserve_exact(count)?;
            norms.resize(count, 0.0);
            Ok(norms)
        };
        let norms = claim()
            .map_err(|_| usage(format!("the norms of {rows} rows do not fit into memory")))?;
        let columns = elements.count(row_bytes);
        let whole = match numbers {
            Numbers::Plain(Dtype::F8E4M3) => whole::Sums::if_worth_it(columns),
            _ => None,
        };
        let store = Store {
            seen: 0,
            norms,
            special: Special::default(),
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            merged: BTreeMap::new(),
            exact: whole.as_ref().map_or_else(Vec::new, |_| vec![0.0; columns]),
        };
        Ok(Self {
            columns,
            whole,
            row_bytes,
            elements,
            rows,
            observer: Arc::new(Silent),
            store: Arc::new(Mutex::new(store)),
        })
    }

    /// Tells of rows that are zero or not finite as they come.
    pub fn telling(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row's norm, by the sum of its squares; says if the row is special.
    fn norm(&self, row: u64, bytes: &[u8], squares: f64, special: &mut Special) -> f64 {
        // No element above the threshold, no sum of squares above this, however it was rounded. So
        // all that is special shows in the sum, and elements are looked at for hardly any row.
        let near = 2.0 * self.columns as f64 * NEAR_ZERO * NEAR_ZERO;
        if squares > near && squares < f64::INFINITY {
            return squares.sqrt();
        }
        let values = self.elements.values(bytes);
        let nan = values.iter().any(|value| value.is_nan());
        if nan {
            special.nan.push(row);
        }
        let largest = values.iter().fold(0.0, |largest, value| value.abs().max(largest));
        if largest == f64::INFINITY {
            special.infinite.push(row);
        }
        if nan {
            return f64::NAN;
        }
        if largest == 0.0 {
            special.zero.push(row);
        } else if largest <= NEAR_ZERO {
            special.near_zero.push(row);
        }
        scaled_norm(&values, largest)
    }

    /// Sums up rows of one tile, unless those before them have not come: then they wait.
    fn sum_up(&self, first: u64, bytes: &[u8], norms: &[f64]) {
        let tile_rows = rows::tile_rows(self.row_bytes as u64);
        let tile = first / tile_rows;
        let end = self.rows.min((tile + 1) * tile_rows);
        let mut open = if first.is_multiple_of(tile_rows) {
            Open { next_row: first, sums: vec![[0.0; LANES]; self.columns.div_ceil(LANES)] }
        } else {
            let mut store = self.store();
            match store.open.remove(&tile) {
                Some(open) if open.next_row == first => open,
                other => {
                    store.open.extend(other.map(|open| (tile, open)));
                    store.waiting.insert(first, bytes.to_vec());
                    return;
                }
            }
        };
        self.add(bytes, norms, &mut open);
        while open.next_row < end {
            let (bytes, norms) = {
                let mut store = self.store();
                let Some(bytes) = store.waiting.remove(&open.next_row) else {
                    store.open.insert(tile, open);
                    return;
                };
                let first = open.next_row as usize;
                let norms = store.norms[first..first + bytes.len() / self.row_bytes].to_vec();
                (bytes, norms)
            };
            self.add(&bytes, &norms, &mut open);
        }
        self.merge(tile, open.sums);
    }

    fn add(&self, bytes: &[u8], norms: &[f64], open: &mut Open) {
        for (row, norm) in bytes.chunks_exact(self.row_bytes).zip(norms) {
            if norm.is_finite() {
                self.elements.add(row, &mut open.sums);
            }
            open.next_row += 1;
        }
    }

    /// Adds a whole tile to its neighbour, both to theirs, and so on, as far as they are known.
    fn merge(&self, tile: u64, mut sums: Sums) {
        let (mut level, mut place) = (0, tile);
        loop {
            let neighbour = {
                let mut store = self.store();
                match store.merged.remove(&(level, place ^ 1)) {
                    Some(neighbour) => neighbour,
                    None => {
                        store.merged.insert((level, place), sums);
                        return;
                    }
                }
            };
            // Of two numbers the sum is the same either way round.
            add_all(&mut sums, &neighbour);
            (level, place) = (level + 1, place / 2);
        }
    }
}

fn add_all(sums: &mut Sums, others: &Sums) {
    for (sum, other) in sums.as_flattened_mut().iter_mut().zip(others.as_flattened()) {
        *sum += other;
    }
}

/// The norm of elements whose squares may be too large or too small for an `f64`, which they are in
/// F64 alone.
pub(super) fn scaled_norm(values: &[f64], largest: f64) -> f64 {
    let scale = scale_of_squares(largest);
    let mut lanes = [0.0; LANES];
    for eight in values.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane += (value * scale) * (value * scale);
        }
    }
    tree(lanes).sqrt() / scale
}

/// The power of two that numbers up to `largest` are multiplied by before they are squared.
fn scale_of_squares(largest: f64) -> f64 {
    match largest {
        large if large > power_of_two(400) => power_of_two(-600),
        small if small < power_of_two(-400) => power_of_two(600),
        _ => 1.0,
    }
}

impl Analysis for Profile {
    type Finding = RowProfile;

    fn fork(&self) -> Self {
        Self {
            elements: self.elements.clone(),
            whole: self.whole.clone(),
            observer: Arc::clone(&self.observer),
            store: Arc::clone(&self.store),
            ..*self
        }
    }

    fn block(&mut self, block: &RowBlock) -> Result<()> {
        let (first, bytes) = (block.first_row(), block.bytes());
        let end = first + block.len() as u64;
        if bytes.len() != block.len() * self.row_bytes || end > self.rows {
            return Err(Error::format("the matrix", "its rows are not those it was said to have"));
        }
        let mut special = Special::default();
        let mut whole = self.whole.take();
        let mut norms = Vec::with_capacity(block.len());
        for (row, bytes) in (first..).zip(block.rows()) {
            let squares = match &mut whole {
                Some(sums) => {
                    if sums.is_full() {
                        sums.move_to(&mut self.store().exact);
                    }
                    sums.add(bytes)
                }
                None => self.elements.sum_of_squares(bytes),
            };
            norms.push(self.norm(row, bytes, squares, &mut special));
        }
        special.tell(self.observer.as_ref());
        {
            let mut store = self.store();
            store.seen += norms.len() as u64;
            store.norms[first as usize..end as usize].copy_from_slice(&norms);
            let all = &mut store.special;
            all.zero.append(&mut special.zero);
            all.near_zero.append(&mut special.near_zero);
            all.nan.append(&mut special.nan);
            all.infinite.append(&mut special.infinite);
            if let Some(sums) = &mut whole {
                sums.move_to(&mut store.exact);
            }
        }
        self.whole = whole;
        if self.whole.is_some() {
            return Ok(());
        }
        let tile_rows = rows::tile_rows(self.row_bytes as u64);
        let mut row = first;
        while row < end {
            // As far as the tile goes, or the block.
            let next = end.min((row / tile_rows + 1) * tile_rows);
            let part = (row - first) as usize..(next - first) as usize;
            let bytes = &bytes[part.start * self.row_bytes..part.end * self.row_bytes];
            self.sum_up(row, bytes, &norms[part]);
            row = next;
        }
        Ok(())
    }

    fn finish(self) -> Result<RowProfile> {
        let mut store = self.store();
        if store.seen != self.rows {
            let what = format!("{} of {} rows were read", store.seen, self.rows);
            return Err(Error::format("the matrix", what));
        }
        // What has no neighbour: for each level one at most, the highest first in the matrix.
        let mut ends = std::mem::take(&mut store.merged).into_values().rev();
        let mut sums = ends.next().unwrap_or_default();
        ends.for_each(|more| add_all(&mut sums, &more));

        let norms = std::mem::take(&mut store.norms);
        let finite_rows = norms.iter().filter(|norm| norm.is_finite()).count() as u64;
        let mut centroid = Vec::new();
        if finite_rows > 0 {
            centroid = match self.whole {
                Some(_) => std::mem::take(&mut store.exact),
                None => sums.into_flattened(),
            };
            centroid.truncate(self.columns);
            centroid.iter_mut().for_each(|sum| *sum /= finite_rows as f64);
            let reach = Reach::of(&centroid);
            if !(reach.l1.is_finite() && reach.l2.is_finite()) {
                centroid.clear();
            }
        }
        let mut special = std::mem::take(&mut store.special);
        let Special { zero, near_zero, nan, infinite } = &mut special;
        for rows in [zero, near_zero, nan, infinite] {
            rows.sort_unstable();
        }
        Ok(RowProfile { norms, special, centroid, finite_rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowFramer;
    use half::bf16;
    use proptest::prelude::*;

    /// A block of rows out of a matrix's bytes.
    fn block(matrix: &[u8], row_bytes: usize, rows: std::ops::Range<usize>) -> RowBlock {
        let bytes = matrix[rows.start * row_bytes..rows.end * row_bytes].to_vec();
        RowFramer::new(rows.start as u64, row_bytes).push(bytes.into()).next().unwrap()
    }

    fn profile(dtype: Dtype, columns: usize, matrix: &[u8]) -> RowProfile {
        let row_bytes = columns * dtype.bits().unwrap() as usize / 8;
        let rows = matrix.len() / row_bytes;
        let all = Profile::new(rows as u64, columns as u64, &dtype).unwrap();
        if rows > 0 {
            all.fork().block(&block(matrix, row_bytes, 0..rows)).unwrap();
        }
        all.finish().unwrap()
    }

    fn of_f64(columns: usize, values: &[f64]) -> RowProfile {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        profile(Dtype::F64, columns, &bytes)
    }

    /// The bits of everything that was found.
    fn bits(found: &RowProfile) -> (Vec<u64>, Vec<u64>, [Vec<u64>; 4], u64) {
        let of = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect();
        let lists = {
            let Special { zero, near_zero, nan, infinite } = found.special.clone();
            [zero, near_zero, nan, infinite]
        };
        (of(&found.norms), of(&found.centroid), lists, found.finite_rows)
    }

    /// Column means and norms, one number after another.
    fn naive(columns: usize, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let norms: Vec<f64> = values.chunks(columns).map(norm).collect();
        let finite: Vec<&[f64]> = values
            .chunks(columns)
            .filter(|row| row.iter().all(|value| value.is_finite()))
            .collect();
        let mean =
            |column: usize| finite.iter().map(|row| row[column]).sum::<f64>() / finite.len() as f64;
        (norms, if finite.is_empty() { Vec::new() } else { (0..columns).map(mean).collect() })
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * a.abs().max(b.abs()) || a == b || a.is_nan() && b.is_nan()
    }

    proptest! {
        /// However the matrix is cut, in whatever order the parts come and to whichever fork, the
        /// finding is the same to the last bit. The magnitudes are far apart, so that the order of
        /// a sum would show.
        #[test]
        fn the_order_of_blocks_does_not_show(
            columns in 1usize..12,
            rows in 0usize..400,
            wide in any::<bool>(),
            seed in any::<u64>(),
            cuts in prop::collection::vec(1usize..90, 1..20),
            forks in 1usize..5,
        ) {
            // Tiles of 64 rows, or of one or two.
            let columns = if wide { 70_000 + columns } else { columns };
            let rows = if wide { rows % 8 } else { rows };
            let mut state = seed | 1;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 33
            };
            let value = |random: u64| match random % 1000 {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => -0.0,
                _ => (random as f64 - 2e9) * 10f64.powi((random % 40) as i32 - 20),
            };
            let matrix: Vec<u8> =
                (0..rows * columns).flat_map(|_| value(random()).to_le_bytes()).collect();
            let whole = profile(Dtype::F64, columns, &matrix);

            let mut blocks = Vec::new();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < rows {
                let to = rows.min(at + cuts.next().unwrap());
                blocks.push(block(&matrix, columns * 8, at..to));
                at = to;
            }
            blocks.sort_by_cached_key(|_| random());
            let all = Profile::new(rows as u64, columns as u64, &Dtype::F64).unwrap();
            let mut parts: Vec<Profile> = (0..forks).map(|_| all.fork()).collect();
            for (i, block) in blocks.iter().enumerate() {
                parts[i % forks].block(block).unwrap();
            }
            let found = all.finish().unwrap();
            prop_assert_eq!(bits(&found), bits(&whole));
        }

        /// Norms and means are the naive ones, up to rounding.
        #[test]
        fn norms_and_means_are_those_of_the_definition(
            columns in 1usize..40,
            values in prop::collection::vec(-1000i32..1000, 0..4000),
        ) {
            let rows = values.len() / columns;
            let values: Vec<f64> =
                values[..rows * columns].iter().map(|&v| f64::from(v) / 8.0).collect();
            let found = of_f64(columns, &values);
            let (norms, centroid) = naive(columns, &values);
            prop_assert!(found.norms.iter().zip(&norms).all(|(&a, &b)| close(a, b)));
            prop_assert_eq!(found.centroid, centroid);
            prop_assert_eq!(found.finite_rows, rows as u64);
        }
    }

    /// Whether numbers are looked up or computed does not show, nor do cuts and forks.
    #[test]
    fn rows_in_whole_numbers_are_profiled_as_those_that_are_looked_up() {
        for (columns, rows) in [(1, 10_000), (37, 300), (130, 70)] {
            let mut state = 7u64;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 40
            };
            // Of the rows, one in a hundred is zero, and one holds a NaN.
            let mut matrix = vec![0; columns * rows];
            for row in matrix.chunks_mut(columns) {
                let kind = random() % 100;
                row.iter_mut().filter(|_| kind > 0).for_each(|code| *code = random() as u8 & 0xfe);
                row[0] = if kind == 1 { 0xff } else { row[0] };
            }
            let new = || Profile::new(rows as u64, columns as u64, &Dtype::F8E4M3).unwrap();
            let looked_up = Profile { whole: None, ..new() };
            looked_up.fork().block(&block(&matrix, columns, 0..rows)).unwrap();
            let all = new();
            let mut forks = [all.fork(), all.fork()];
            for at in (0..rows).step_by(33).rev() {
                let part = block(&matrix, columns, at..rows.min(at + 33));
                forks[at % 2].block(&part).unwrap();
            }
            let whole = all.finish().unwrap();
            assert!(!whole.special.zero.is_empty() && !whole.special.nan.is_empty());
            assert_eq!(bits(&whole), bits(&looked_up.finish().unwrap()));
            assert_eq!(bits(&whole), bits(&profile(Dtype::F8E4M3, columns, &matrix)));
        }
    }

    #[test]
    fn special_rows_are_listed_by_magnitude_not_by_sign() {
        let rows = [
            [0.0, -0.0, 0.0],
            [-2e-21, 2e-21, 0.0],
            // All negative: the largest element is far below zero, the largest magnitude is not.
            [-3.0, -4.0, -12.0],
            [NEAR_ZERO, -NEAR_ZERO, NEAR_ZERO],
            [NEAR_ZERO, 2.0 * NEAR_ZERO, 0.0],
            [f64::NAN, 1.0, 1.0],
            [1.0, f64::NEG_INFINITY, 1.0],
            [f64::INFINITY, -f64::NAN, 0.0],
            [5e-324, 0.0, 0.0],
        ];
        let found = of_f64(3, rows.as_flattened());
        assert_eq!(found.special.zero, [0]);
        assert_eq!(found.special.near_zero, [1, 3, 8]);
        assert_eq!(found.special.nan, [5, 7]);
        assert_eq!(found.special.infinite, [6, 7]);
        assert_eq!(found.finite_rows, 6);
        assert_eq!(found.norms[2], 13.0);
        assert!(found.norms[5].is_nan() && found.norms[6] == f64::INFINITY);
        assert!(found.norms[7].is_nan());
        assert!(close(found.norms[1], 8f64.sqrt() * 1e-21));
        let (_, centroid) = naive(3, rows.as_flattened());
        assert_eq!(found.centroid, centroid);
        assert_eq!(found.summary([5, 6, 7, 99]), None);
        assert_eq!(found.whole().unwrap().rows, 6);
    }

    #[test]
    fn norms_neither_overflow_nor_vanish() {
        let found = of_f64(3, &[3e300, 4e300, 0.0, 3e-310, 4e-310, 0.0, 3e-323, 4e-323, 0.0]);
        assert!(close(found.norms[0], 5e300) && (found.norms[1] - 5e-310).abs() < 1e-323);
        assert!(found.norms[2] > 0.0);
        let found = of_f64(2, &[f64::MAX, f64::MAX, 1.0, 1.0]);
        assert_eq!((found.norms[0], found.finite_rows), (f64::INFINITY, 1));
        assert_eq!((found.special.infinite.len(), &found.centroid[..]), (0, &[1.0, 1.0][..]));
        let row: Vec<u8> = [f32::MAX; 100].iter().flat_map(|v| v.to_le_bytes()).collect();
        let found = profile(Dtype::F32, 100, &row);
        assert!(close(found.norms[0], f64::from(f32::MAX) * 10.0));
    }

    #[test]
    fn a_summary_is_of_the_rows_asked_for() {
        let found = of_f64(1, &[4.0, -1.0, 3.0, 2.0]);
        let all = found.whole().unwrap();
        assert_eq!((all.rows, all.min, all.median, all.mean, all.max), (4, 1.0, 2.5, 2.5, 4.0));
        assert!(close(all.sd, 1.25f64.sqrt()));
        let some = found.summary([0, 2, 2]).unwrap();
        assert_eq!((some.rows, some.min, some.median, some.max), (3, 3.0, 3.0, 4.0));
        assert_eq!(found.summary(std::iter::empty()), None);
    }

    #[test]
    fn bins_are_equal_and_hold_every_finite_row() {
        let values: Vec<f64> = (0..=1000).map(f64::from).chain([f64::NAN]).collect();
        let found = of_f64(1, &values);
        let histogram = found.histogram(100).unwrap();
        assert_eq!((histogram.min, histogram.max), (0.0, 1000.0));
        assert!(histogram.bins[..99].iter().all(|&count| count == 10));
        assert_eq!(histogram.bins[99], 11);
        assert_eq!(found.histogram(0).unwrap().bins, [1001]);
        let same = of_f64(1, &[7.0; 5]).histogram(3).unwrap();
        assert_eq!(same.bins, [0, 0, 5]);
        assert_eq!(of_f64(1, &[f64::NAN]).histogram(3), None);
    }

    #[test]
    fn a_matrix_without_finite_rows_has_no_centroid() {
        for found in [of_f64(2, &[]), of_f64(2, &[f64::NAN, 0.0])] {
            assert!(found.centroid.is_empty() && found.centroid_reach().is_none());
            assert_eq!((found.whole(), found.finite_rows), (None, 0));
        }
    }

    #[test]
    fn a_centroid_reaches_as_far_as_its_elements_say() {
        let found = of_f64(2, &[2.0, -4.0, 4.0, -4.0]);
        assert_eq!(found.centroid_reach(), Some(Reach { l2: 5.0, linf: 4.0, l1: 7.0 }));
    }

    #[test]
    fn what_cannot_be_profiled_is_refused() {
        assert!(Profile::new(1, 3, &Dtype::F4).is_err());
        assert!(Profile::new(1, 0, &Dtype::F32).is_err());
        assert!(Profile::new(1, u64::MAX, &Dtype::F32).is_err());
        assert!(Profile::new(u64::MAX, 1, &Dtype::F32).is_err());
        assert!(Profile::new(1, 1, Dtype::Unknown("NEW".into())).is_err());
    }

    #[test]
    fn a_matrix_that_was_not_read_whole_has_no_finding() {
        let all = Profile::new(3, 1, &Dtype::U8).unwrap();
        all.fork().block(&block(&[1, 2, 3], 1, 0..2)).unwrap();
        assert!(all.fork().block(&block(&[1, 2, 3, 4], 1, 2..4)).is_err());
        assert!(all.fork().block(&block(&[1, 2, 3, 4, 5, 6], 2, 2..3)).is_err());
        assert!(all.finish().is_err());
    }

    #[test]
    fn few_sums_are_held_while_rows_come_in_order() {
        let all = Profile::new(64 * 1000, 1, &Dtype::U8).unwrap();
        let tile = vec![1; 64];
        for number in 0..1000 {
            let rows = RowFramer::new(number * 64, 1).push(tile.clone().into()).next().unwrap();
            all.fork().block(&rows).unwrap();
            let store = all.store();
            assert!(store.merged.len() <= 10 && store.open.is_empty() && store.waiting.is_empty());
        }
        assert_eq!(all.finish().unwrap().centroid, [1.0]);
    }

    /// How fast: `cargo test --release --lib -- --ignored --nocapture bytes_a_second`.
    #[test]
    #[ignore = "measures"]
    #[allow(clippy::print_stdout)]
    fn bytes_a_second() {
        for (dtype, bytes) in
            [(Dtype::Bf16, 2), (Dtype::F16, 2), (Dtype::F32, 4), (Dtype::F8E4M3, 1)]
        {
            let (columns, rows) = (2048, 64 * 1024 / 64);
            let value = |i: usize| bf16::from_f64((i as f64 * 0.1).sin() * 0.02).to_bits();
            let row: Vec<u8> = match bytes {
                4 => (0..columns).flat_map(|i| (u32::from(value(i)) << 16).to_le_bytes()).collect(),
                _ => (0..columns * bytes / 2).flat_map(|i| value(i).to_le_bytes()).collect(),
            };
            let matrix = row.repeat(rows);
            let chunk = 128 << 10;
            let per_block = chunk / row.len();
            let blocks: Vec<RowBlock> = (0..rows / per_block)
                .map(|i| block(&matrix, row.len(), i * per_block..(i + 1) * per_block))
                .collect();
            let mut best = f64::INFINITY;
            for _ in 0..20 {
                let mut all = Profile::new(rows as u64, columns as u64, &dtype).unwrap();
                let start = std::time::Instant::now();
                for block in &blocks {
                    all.block(block).unwrap();
                }
                best = best.min(start.elapsed().as_secs_f64());
                std::hint::black_box(all.finish().unwrap());
            }
            println!("{dtype}: {:.2} GB/s", matrix.len() as f64 / best / 1e9);
        }
    }
}
