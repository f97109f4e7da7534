//! Sums and middles of lists of numbers, in an order that depends on the list alone.

use serde::{Deserialize, Serialize};

/// The ends and the middles of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle; of an even number of them, half way between the two.
    pub median: f64,
    /// The mean.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of numbers without NaN, which are sorted here; `None` if there are none. The same numbers in
    /// another order give the same to the last bit.
    pub(super) fn of(values: &mut [f64]) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => values[middle - 1].midpoint(values[middle]),
            _ => values[middle],
        };
        let count = values.len() as f64;
        let mut mean = sum(values) / count;
        if mean.is_infinite() && min.is_finite() && max.is_finite() {
            // Their sum is beyond all numbers, their mean is not.
            mean = sum(&values.iter().map(|value| value / count).collect::<Vec<_>>());
        }
        Some(Self { min, median, mean, max })
    }
}

/// The sum of numbers, by halves: its error grows with the logarithm of their count.
pub(super) fn sum(values: &[f64]) -> f64 {
    match values.len() {
        0..=32 => values.iter().sum(),
        count => {
            let (front, back) = values.split_at(count / 2);
            sum(front) + sum(back)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_one_number_or_half_way_between_two() {
        let of = |values: &[f64]| Spread::of(&mut values.to_vec()).unwrap();
        assert_eq!(of(&[3.0]), Spread { min: 3.0, median: 3.0, mean: 3.0, max: 3.0 });
        assert_eq!(of(&[4.0, 1.0, 1.0]), Spread { min: 1.0, median: 1.0, mean: 2.0, max: 4.0 });
        assert_eq!(of(&[4.0, -1.0]), Spread { min: -1.0, median: 1.5, mean: 1.5, max: 4.0 });
        assert_eq!(Spread::of(&mut []), None);
        // Their sum would be beyond all numbers.
        let found = of(&[f64::MAX, f64::MAX]);
        assert_eq!((found.median, found.mean), (f64::MAX, f64::MAX));
    }

    #[test]
    fn many_small_numbers_are_not_lost() {
        let tenths = vec![0.1; 1_000_000];
        assert!((sum(&tenths) - 100_000.0).abs() < 1e-9);
    }
}
