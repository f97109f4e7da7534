//! How far apart the vectors of the groups are, and where they lie.
//!
//! One vector for each group. Distances are taken pair by pair from differences in `f64`: by way of
//! products of matrices, vectors a few units in the last place apart would be told nothing of.

use super::element::{Elements, LANES, power_of_two, tree};
use super::profile::scaled_norm;
use super::spread::Spread;
use crate::head::Numbers;
use serde::{Deserialize, Serialize};

/// The most vectors: half a million pairs. Of wide ones there are fewer.
pub const MAX_VECTORS: usize = 1024;

/// The most elements of all vectors, 16 bytes each while they are compared.
const MAX_ELEMENTS: u64 = 4 << 20;

/// The largest magnitude in a vector: the squares of larger ones are beyond all numbers, and only F64
/// has them.
const LARGEST: f64 = 1e150;

/// The distances between the groups' vectors, and their middle.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// How many groups these figures are of: the largest, those whose vectors are finite.
    pub groups: u64,
    /// How many pairs of them there are; without one, the next three are `None`.
    pub pairs: u64,
    /// The L2 distances of all pairs.
    pub l2: Option<Spread>,
    /// The L∞ distances: the largest difference in one column.
    pub linf: Option<Spread>,
    /// The largest number of units in the last place that a column differs by: how many numbers of
    /// the matrix's type one must go through, zero being one. `None` where elements are integers or codes.
    pub linf_ulp: Option<Spread>,
    /// The mean of the vectors, each as often as it has members.
    pub weighted: Centre,
    /// The mean of the vectors, each once.
    pub plain: Centre,
}

/// A mean of the groups' vectors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Centre {
    /// Its L2 norm.
    pub l2: f64,
    /// How far it is from the mean of all rows, in L2; `None` if no row is finite.
    pub separation: Option<f64>,
}

/// A group's vector.
struct Vector {
    members: u64,
    values: Vec<f64>,
    keys: Option<Vec<i64>>,
}

impl Geometry {
    /// How many vectors of that many columns are compared.
    pub fn most(columns: u64) -> usize {
        let fit = usize::try_from(MAX_ELEMENTS / columns.max(1)).unwrap_or(usize::MAX);
        fit.clamp(1, MAX_VECTORS)
    }

    /// Of groups, each with its members and the bytes of its row; `None` if no vector is finite or
    /// rows have no numbers. `centroid` is the mean of all rows, empty if there is none.
    pub fn of(numbers: &Numbers, groups: &[(u64, &[u8])], centroid: &[f64]) -> Option<Self> {
        let elements = Elements::of(numbers)?;
        let vectors: Vec<Vector> = groups
            .iter()
            .map(|&(members, row)| {
                let (values, keys) = (elements.values(row), elements.keys(row));
                Vector { members, values, keys }
            })
            .filter(|vector| vector.values.iter().all(|value| value.abs() <= LARGEST))
            .collect();
        let columns = vectors.first()?.values.len();
        let mean = |weight: &dyn Fn(&Vector) -> f64| {
            let mut sums = vec![0.0; columns];
            for vector in &vectors {
                for (sum, value) in sums.iter_mut().zip(&vector.values) {
                    *sum += weight(vector) * value;
                }
            }
            let weights: f64 = vectors.iter().map(weight).sum();
            sums.iter_mut().for_each(|sum| *sum /= weights);
            let separation = (centroid.len() == columns).then(|| distance(&sums, centroid));
            Centre { l2: distance(&sums, &vec![0.0; columns]), separation }
        };
        let (weighted, plain) = (mean(&|vector| vector.members as f64), mean(&|_| 1.0));

        let (mut l2, mut linf, mut ulp) = (Vec::new(), Vec::new(), Vec::new());
        for (at, a) in vectors.iter().enumerate() {
            for b in &vectors[at + 1..] {
                let (far, farthest) = distances(&a.values, &b.values);
                l2.push(far);
                linf.push(farthest);
                if let (Some(a), Some(b)) = (&a.keys, &b.keys) {
                    let steps = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max();
                    ulp.push(steps.unwrap_or(0) as f64);
                }
            }
        }
        Some(Self {
            groups: vectors.len() as u64,
            pairs: l2.len() as u64,
            l2: Spread::of(&mut l2),
            linf: Spread::of(&mut linf),
            linf_ulp: Spread::of(&mut ulp),
            weighted,
            plain,
        })
    }

    /// How far a row is from the mean of all rows, in L2; `None` if either is not finite.
    pub fn from_centroid(numbers: &Numbers, row: &[u8], centroid: &[f64]) -> Option<f64> {
        let values = Elements::of(numbers)?.values(row);
        let far = (values.len() == centroid.len()).then(|| distance(&values, centroid))?;
        far.is_finite().then_some(far)
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    distances(a, b).0
}

/// L2 and L∞ of a difference.
fn distances(a: &[f64], b: &[f64]) -> (f64, f64) {
    let (mut squares, mut largest) = ([0.0; LANES], [0.0; LANES]);
    let mut take = |lane: usize, a: f64, b: f64| {
        let difference = a - b;
        squares[lane] += difference * difference;
        largest[lane] = f64::max(largest[lane], difference.abs());
    };
    let ((eights_a, last_a), (eights_b, last_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in eights_a.iter().zip(eights_b) {
        for lane in 0..LANES {
            take(lane, a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in last_a.iter().zip(last_b).enumerate() {
        take(lane, *a, *b);
    }
    let farthest = largest.into_iter().fold(0.0, f64::max);
    if (power_of_two(-400)..power_of_two(400)).contains(&farthest) {
        return (tree(squares).sqrt(), farthest);
    }
    // In F64 squares may vanish, or be beyond all numbers.
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    (scaled_norm(&differences, farthest), farthest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;
    use half::bf16;
    use proptest::prelude::*;

    fn bytes(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn of(groups: &[(u64, &[f64])], centroid: &[f64]) -> Option<Geometry> {
        let rows: Vec<(u64, Vec<u8>)> = groups.iter().map(|&(n, row)| (n, bytes(row))).collect();
        let rows: Vec<(u64, &[u8])> = rows.iter().map(|(n, row)| (*n, row.as_slice())).collect();
        Geometry::of(&Dtype::F64.into(), &rows, centroid)
    }

    #[test]
    fn distances_and_centres_are_those_of_the_vectors() {
        let found =
            of(&[(3, &[0.0, 0.0]), (1, &[3.0, 4.0]), (2, &[3.0, 0.0])], &[1.0, 2.0]).unwrap();
        assert_eq!((found.groups, found.pairs), (3, 3));
        let l2 = Spread { min: 3.0, median: 4.0, mean: 4.0, max: 5.0 };
        assert_eq!(found.l2, Some(l2));
        assert_eq!(found.linf.map(|s| (s.min, s.max)), Some((3.0, 4.0)));
        let (weighted, plain) = ([1.5f64, 4.0 / 6.0], [2.0f64, 4.0 / 3.0]);
        let close = |found: f64, at: [f64; 2]| (found - at[0].hypot(at[1])).abs() < 1e-15;
        assert!(close(found.weighted.l2, weighted) && close(found.plain.l2, plain));
        let apart = |at: [f64; 2]| [at[0] - 1.0, at[1] - 2.0];
        assert!(close(found.weighted.separation.unwrap(), apart(weighted)));
        assert!(close(found.plain.separation.unwrap(), apart(plain)));
    }

    #[test]
    fn steps_are_counted_through_zero_and_whatever_their_width() {
        let one = bf16::from_f32(1.0).to_bits();
        let rows = [[one, 0x8001, 0], [one + 3, 0x0001, 0x8000], [one + 1, 0x8000, 0]]
            .map(|row| row.map(u16::to_le_bytes).as_flattened().to_vec());
        let groups: Vec<(u64, &[u8])> = rows.iter().map(|row| (2, row.as_slice())).collect();
        let steps = Geometry::of(&Dtype::Bf16.into(), &groups, &[]).unwrap().linf_ulp.unwrap();
        assert_eq!((steps.min, steps.median, steps.max), (1.0, 2.0, 3.0));
        assert!(Geometry::of(&Dtype::I16.into(), &groups, &[]).unwrap().linf_ulp.is_none());
    }

    #[test]
    fn one_vector_has_a_place_and_no_distance() {
        let found = of(&[(5, &[3.0, 4.0])], &[]).unwrap();
        assert_eq!((found.pairs, found.l2, found.linf, found.linf_ulp), (0, None, None, None));
        assert_eq!(found.plain, Centre { l2: 5.0, separation: None });
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn vectors_that_are_not_finite_are_left_out() {
        let rows: [(u64, &[f64]); 4] = [
            (2, &[f64::NAN, 0.0]),
            (2, &[1.0, 1.0]),
            (2, &[f64::INFINITY, 0.0]),
            (2, &[1e300, 0.0]),
        ];
        assert_eq!(of(&rows, &[]).unwrap().groups, 1);
        assert_eq!(of(&rows[..1], &[]), None);
        assert_eq!(Geometry::from_centroid(&Dtype::F64.into(), &bytes(&[f64::NAN]), &[0.0]), None);
        assert_eq!(Geometry::from_centroid(&Dtype::F64.into(), &bytes(&[3.0]), &[1.0]), Some(2.0));
        assert_eq!(Geometry::from_centroid(&Dtype::F64.into(), &bytes(&[3.0]), &[]), None);
    }

    #[test]
    fn neighbours_whose_squares_vanish_are_still_apart() {
        let found = of(&[(2, &[1e-200, 0.0]), (2, &[4e-200, 4e-200])], &[]).unwrap();
        assert!((found.l2.unwrap().min / 5e-200 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn wide_vectors_are_fewer() {
        assert_eq!(Geometry::most(2048), 1024);
        assert_eq!(Geometry::most(1 << 14), 256);
        assert_eq!(Geometry::most(u64::MAX), 1);
    }

    proptest! {
        /// As comparing column by column gives.
        #[test]
        fn distances_are_those_of_the_definition(
            pairs in prop::collection::vec((-1e3..1e3, -1e3..1e3), 1..50),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            let squares: f64 = differences.iter().map(|d| d * d).sum();
            let largest = differences.iter().fold(0f64, |all, d| all.max(d.abs()));
            let (far, farthest) = distances(&a, &b);
            prop_assert!((far - squares.sqrt()).abs() <= 1e-12 * far);
            prop_assert_eq!(farthest, largest);
        }
    }
}
