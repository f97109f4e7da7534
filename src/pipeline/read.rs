//! One matrix, read: whole, by the first bytes of rows, or line by line where its tokens are columns.

use super::{Found, Placed, Prepared, is_local, kept, turned};
use crate::analysis::{
    Both, Copies, Duplicates, Equality, Geometry, Grouping, PREFIX, Prefixes, Profile, RowProfile,
    Suspects, UNKNOWN_VALUES, is_readable,
};
use crate::error::{Error, Result};
use crate::head::{Layout, Numbers};
use crate::observe::{Observer, Silent};
use crate::report::{GeometryPart, ProbePart};
use crate::scan::{Columns, Wanted, rows_again, scan};
use crate::source::ByteSource;
use bytes::Bytes;
use std::sync::Arc;

/// Bytes of rows that are kept while a matrix is read, for the geometry of its groups. The vectors
/// that do not fit are read again.
const COPIES: usize = 16 << 20;

/// Of how many rows one must be in doubt after a probe for all to be read: beyond that, looking at
/// scattered rows is slower than one pass.
const MANY: u64 = 8;

/// Rows of so many bytes have their prefixes so far apart that pages between them are not looked at: with one
/// that is touched the system brings those of 64 kB.
const APART: u64 = 64 << 10;

impl Prepared {
    /// Reads every row, once; unless the same bytes were read before.
    pub(super) async fn read(&self, number: usize) -> Result<Found> {
        let (matrix, sources) = &self.matrices[number];
        // Where two matrices are held against each other, it tells which rows are zero.
        let asked = self.degenerate || self.matrices.len() > 1;
        let measured = asked && is_readable(&matrix.numbers);
        if let Some(found) = self.found_before(matrix, sources, measured).await {
            return Ok(found);
        }
        if let Some(layout) = turned(matrix) {
            return self.read_columns(number, layout, measured).await;
        }
        let plan = self.plan(matrix, sources);
        let observer = Arc::clone(&self.observer);
        let duplicates = Duplicates::new(
            matrix.rows,
            matrix.numbers.clone(),
            self.equality,
            Arc::clone(&observer),
        )?;
        let (copies, profile) = match measured {
            true => {
                let profile = Profile::new(matrix.rows, matrix.columns, matrix.numbers.clone())?;
                (Copies::with_room(COPIES), Some(profile.telling(Arc::clone(&observer))))
            }
            false => (Copies::default(), None),
        };
        let both = Both(duplicates.keeping(copies.clone()), profile);
        let (found, profile) = scan(sources, matrix, &plan, both, observer).await?;
        let placed = match &profile {
            Some(profile) if self.profile => {
                self.place_groups(number, &found, &copies, profile).await?
            }
            _ => Placed::default(),
        };
        let special = profile.as_ref().map(|profile| profile.special.clone());
        let (probe, stored, warning) = (None, false, None);
        let mut found = Found { found, special, profile, placed, probe, stored, warning };
        found.warning = self.keep_found(matrix, sources, &found).await;
        Ok(found)
    }

    /// Reads a matrix whose tokens are columns, line by line.
    async fn read_columns(&self, number: usize, layout: &Layout, measured: bool) -> Result<Found> {
        let (matrix, sources) = &self.matrices[number];
        let equality = self.equality;
        let coding = match &matrix.numbers {
            Numbers::Coded(coding) => Some(coding),
            _ if equality == Equality::Values => {
                return Err(Error::Usage { what: UNKNOWN_VALUES.to_owned() });
            }
            _ => None,
        };
        let copies = Copies::with_room(if self.profile { COPIES } else { 0 });
        let wanted = coding
            .filter(|_| measured || equality == Equality::Values)
            .map(|coding| Wanted { coding, equality, copies: &copies });
        let observer = self.observer.as_ref();
        let (found, profile) = self.columns(sources, layout, observer).scan(wanted).await?;
        let profile = profile.filter(|_| measured);
        let placed = match &profile {
            Some(profile) if self.profile => {
                self.place_groups(number, &found, &copies, profile).await?
            }
            _ => Placed::default(),
        };
        let special = profile.as_ref().map(|profile| profile.special.clone());
        special.iter().for_each(|special| special.tell(observer));
        kept::tell(&found, observer);
        let (probe, stored, warning) = (None, false, None);
        let mut found = Found { found, special, profile, placed, probe, stored, warning };
        found.warning = self.keep_found(matrix, sources, &found).await;
        Ok(found)
    }

    fn columns<'a>(
        &self,
        sources: &'a [Arc<dyn ByteSource>],
        layout: &'a Layout,
        observer: &'a dyn Observer,
    ) -> Columns<'a> {
        let streams = if is_local(sources) { self.threads } else { self.connections };
        Columns { sources, layout, streams: streams.get(), observer }
    }

    /// Reads the first bytes of every row, and those rows whole of which that does not say that they
    /// are unlike all others; or every row, where they would be many.
    pub(super) async fn probe(&self, number: usize) -> Result<Found> {
        let (matrix, sources) = &self.matrices[number];
        let refuse = |what: &str| Err(Error::Usage { what: what.to_owned() });
        if !is_local(sources) {
            return refuse("only local files can be probed: a server sends whole rows in any case");
        }
        if self.degenerate || self.matrices.len() > 1 {
            return refuse("a probe does not read all rows, so that it measures and classes none");
        }
        if self.equality != Equality::Bits {
            return refuse("a probe compares stored bits only");
        }
        if matrix.row_bytes <= PREFIX as u64 || turned(matrix).is_some() {
            return self.read(number).await;
        }
        let plan = self.plan(matrix, sources);
        let few = plan.clone().for_few();
        let observer: Arc<dyn Observer> = Arc::new(Silent);
        let prefixes = Prefixes::new(matrix.rows)?;
        let pages = if matrix.row_bytes < APART { &plan } else { &few };
        let suspects = scan(sources, matrix, pages, prefixes, observer.clone()).await?;
        let rows_read = suspects.len() as u64;
        if rows_read > matrix.rows / MANY {
            return self.read(number).await;
        }
        let second = Suspects::new(matrix.rows, suspects, Arc::clone(&self.observer));
        let found = scan(sources, matrix, &few, second, observer).await?;
        let probe = Some(ProbePart { prefix_bytes: PREFIX as u64, rows_read });
        let placed = Placed::default();
        let (special, profile, stored, warning) = (None, None, false, None);
        Ok(Found { found, special, profile, placed, probe, stored, warning })
    }

    /// The vectors of the largest groups: how far apart they are, and from the mean of all rows.
    async fn place_groups(
        &self,
        number: usize,
        found: &Grouping,
        copies: &Copies,
        profile: &RowProfile,
    ) -> Result<Placed> {
        let (matrix, sources) = &self.matrices[number];
        let largest = &found.groups[..found.groups.len().min(Geometry::most(matrix.columns))];
        let mut vectors: Vec<Option<Bytes>> = largest.iter().map(|g| copies.take(g)).collect();
        let missing: Vec<usize> = (0..vectors.len()).filter(|&at| vectors[at].is_none()).collect();
        let again: Vec<u64> = missing.iter().map(|&at| largest[at].rows[0]).collect();
        let read = match turned(matrix) {
            _ if again.is_empty() => Vec::new(),
            Some(layout) => self.columns(sources, layout, &Silent).again(&again).await?,
            None => rows_again(sources, matrix, &self.plan(matrix, sources), &again).await?,
        };
        for (at, bytes) in missing.into_iter().zip(read) {
            vectors[at] = Some(bytes);
        }
        let vectors: Vec<(u64, Bytes)> = largest
            .iter()
            .map(|g| g.rows.len() as u64)
            .zip(vectors.into_iter().flatten())
            .collect();
        let (numbers, centroid) = (matrix.numbers.clone(), profile.centroid.clone());
        let groups_total = found.groups.len() as u64;
        // A second's work at most, beside the runtime.
        let placed = tokio::task::spawn_blocking(move || {
            let rows: Vec<(u64, &[u8])> = vectors.iter().map(|(n, row)| (*n, &row[..])).collect();
            let figures = Geometry::of(&numbers, &rows, &centroid);
            let far = |(_, row): &(u64, &[u8])| Geometry::from_centroid(&numbers, row, &centroid);
            Placed {
                geometry: figures.map(|figures| GeometryPart { groups_total, figures }),
                from_centroid: rows.iter().map(far).collect(),
            }
        });
        placed.await.map_err(|_| Error::format("the matrix", "its groups cannot be compared"))
    }
}
