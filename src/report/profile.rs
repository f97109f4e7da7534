//! The numbers of the rows: norms, rows that are special, where the groups lie.

use crate::analysis::{Geometry, Histogram, NEAR_ZERO, NormSummary, Reach, RowProfile};
use crate::vocabulary::Class;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bins of the histogram.
const BINS: usize = 100;

/// The lengths of all rows, and the rows that are unlike others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfilePart {
    /// The L2 norms of the finite rows; `null` where there is none, as the next.
    pub norms: Option<NormSummary>,
    /// The same norms in 100 bins.
    pub histogram: Option<Histogram>,
    /// The same norms by class, in the order in which classes are tried; empty without a tokenizer.
    pub classes: Vec<ClassNorms>,
    /// Rows whose every element is +0 or −0, ascending, as all that follow.
    pub zero: Vec<u64>,
    /// Other rows whose every element's magnitude is at most `near_zero_threshold`.
    pub near_zero: Vec<u64>,
    /// That threshold.
    pub near_zero_threshold: f64,
    /// Rows that hold a NaN.
    pub nan: Vec<u64>,
    /// Rows that hold an infinity; they may hold a NaN as well.
    pub infinite: Vec<u64>,
    /// The mean of the finite rows; `null` where there is none.
    pub centroid: Option<CentroidPart>,
    /// The L2 norm of each row; `null` for one that is not finite.
    pub row_norms: Vec<Option<f64>>,
}

/// The norms of one class's rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassNorms {
    /// The class.
    pub class: Class,
    /// Its norms.
    #[serde(flatten)]
    pub norms: NormSummary,
}

/// The mean of all finite rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CentroidPart {
    /// How far it is from the origin.
    #[serde(flatten)]
    pub reach: Reach,
    /// Its elements; of complex numbers the real and the imaginary parts in turn.
    pub vector: Vec<f64>,
}

/// Where the groups' vectors lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GeometryPart {
    /// How many groups there are; the figures are of as many of the largest as `groups` says.
    pub groups_total: u64,
    /// The figures.
    #[serde(flatten)]
    pub figures: Geometry,
}

impl ProfilePart {
    /// The finding as figures; `classes` has the rows of each class.
    pub fn new(found: &RowProfile, classes: Option<&BTreeMap<Class, Vec<u64>>>) -> Self {
        let of_class = |(&class, rows): (&Class, &Vec<u64>)| {
            let norms = found.summary(rows.iter().copied())?;
            Some(ClassNorms { class, norms })
        };
        Self {
            norms: found.whole(),
            histogram: found.histogram(BINS),
            classes: classes.into_iter().flatten().filter_map(of_class).collect(),
            zero: found.special.zero.clone(),
            near_zero: found.special.near_zero.clone(),
            near_zero_threshold: NEAR_ZERO,
            nan: found.special.nan.clone(),
            infinite: found.special.infinite.clone(),
            centroid: found
                .centroid_reach()
                .map(|reach| CentroidPart { reach, vector: found.centroid.clone() }),
            row_norms: found.norms.iter().map(|n| n.is_finite().then_some(*n)).collect(),
        }
    }
}
