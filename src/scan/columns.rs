//! One pass over a matrix whose tokens are columns: lines in the order of the files, digests in step.
//!
//! Memory: what [`InStep`] keeps per token, and one line and one segment for each stream. Where numbers are
//! wanted, scales and zero points come first and are held, and [`InColumns`] keeps its own. A token's bytes
//! are complete with the last line, so that nothing is known before.

use super::lost;
use crate::analysis::{
    Copies, Equality, Gather, Grouping, InColumns, InStep, Lines, RowProfile, UNKNOWN_VALUES,
};
use crate::error::{Error, Result};
use crate::head::{Coding, Layout, Packing};
use crate::observe::{Event, Observer};
use crate::rows::RowFramer;
use crate::source::{self, ByteSource};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one request; one for each stream is held in memory.
const SEGMENT: u64 = 2 << 20;

/// How the bytes of one tensor are cut.
pub fn segments(bytes: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = bytes.end;
    (bytes.start..end).step_by(SEGMENT as usize).map(move |at| at..end.min(at + SEGMENT))
}

/// A matrix whose tokens are columns.
pub struct Columns<'a> {
    /// Where the parts of the layout are, one for each.
    pub sources: &'a [Arc<dyn ByteSource>],
    /// How tokens lie in them.
    pub layout: &'a Layout,
    /// Requests at a time.
    pub streams: usize,
    /// Who is told what comes.
    pub observer: &'a dyn Observer,
}

/// What is wanted of the numbers of tokens.
pub struct Wanted<'a> {
    /// What their codes stand for.
    pub coding: &'a Coding,
    /// Whether tokens with the same numbers are equal, whatever their codes.
    pub equality: Equality,
    /// Keeps the bytes of tokens that may be equal to others.
    pub copies: &'a Copies,
}

impl Columns<'_> {
    /// Goes over all lines: the groups, and what the numbers are, unless they turn out not to be certain.
    pub async fn scan(&self, wanted: Option<Wanted<'_>>) -> Result<(Grouping, Option<RowProfile>)> {
        let tokens = self.tokens()?;
        let row_bytes: u64 = self.layout.parts.iter().map(|part| part.share.width()).sum();
        let mut stored = self.in_step(row_bytes)?;
        let (mut held, mut numbers, mut gather) = (None, None, Gather::default());
        if let Some(Wanted { coding, equality, copies }) = &wanted {
            let lines = Arc::new([self.hold(1).await?, self.hold(2).await?]);
            let by_value = *equality == Equality::Values;
            let codes = self.layout.turned[0];
            numbers = InColumns::new(tokens, coding, codes, Arc::clone(&lines), by_value)
                .map_err(|_| self.too_many())?;
            if numbers.is_none() && by_value {
                return Err(Error::Usage { what: UNKNOWN_VALUES.to_owned() });
            }
            let most = copies.room() / row_bytes.max(1) as usize;
            if most > 0 {
                gather = Gather::new(self.alike(lines.as_ref())?.into_iter().take(most));
            }
            held = Some(lines);
        }
        let mut take = |packing: Packing, line: &[u8], count: usize| {
            stored.take(count, |token, out| packing.put(line, token, tokens, out));
            gather.take(packing, line, tokens, count);
        };
        self.lines(0, |packing, line, count| {
            take(packing, line, count);
            if let Some(numbers) = &mut numbers {
                numbers.take(packing, line, count);
            }
        })
        .await?;
        match held {
            Some(held) => {
                for lines in held.iter() {
                    lines.iter().for_each(|line| take(lines.packing, line, lines.packing.width()));
                }
            }
            None => {
                for part in 1..self.layout.parts.len() {
                    self.lines(part, &mut take).await?;
                }
            }
        }
        for (row, bytes) in gather.finish() {
            wanted.iter().for_each(|wanted| wanted.copies.keep(row, &bytes));
        }
        let incomplete = || lost("tokens are not complete");
        let numbers = numbers.map(|numbers| numbers.finish().ok_or_else(incomplete)).transpose()?;
        let (profile, values) = numbers.unzip();
        let stored = stored.finish().ok_or_else(incomplete)?;
        Ok((Grouping::of(&stored, values.flatten().as_deref()), profile))
    }

    /// The bytes of some tokens: another pass.
    pub async fn again(&self, rows: &[u64]) -> Result<Vec<Bytes>> {
        let tokens = self.tokens()?;
        let mut gather = Gather::new(rows.iter().copied());
        for part in 0..self.layout.parts.len() {
            self.lines(part, |packing, line, count| gather.take(packing, line, tokens, count))
                .await?;
        }
        Ok(gather.finish().into_iter().map(|(_, bytes)| bytes.into()).collect())
    }

    /// The first of all tokens whose scales and zero points are the same; most at once those of which
    /// there are most. Equal tokens are among them.
    fn alike(&self, held: &[Lines; 2]) -> Result<Vec<u64>> {
        let tokens = self.tokens()?;
        let width = |part: usize| self.layout.parts[part].share.width();
        let mut digests = self.in_step(width(1) + width(2))?;
        for lines in held {
            let (packing, count) = (lines.packing, lines.packing.width());
            for line in lines.iter() {
                digests.take(count, |token, out| packing.put(line, token, tokens, out));
            }
        }
        let digests = digests.finish().ok_or_else(|| lost("scales are not complete"))?;
        let groups = Grouping::of(&digests, None).groups;
        Ok(groups.into_iter().map(|group| group.rows[0]).collect())
    }

    /// Reads a part whole.
    async fn hold(&self, part: usize) -> Result<Lines> {
        let (packing, range) = (self.layout.turned[part], &self.layout.parts[part].bytes);
        let line_bytes = packing.line_bytes(self.layout.rows) as usize;
        let mut bytes = Vec::new();
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(length).map_err(|_| self.too_many())?;
        self.lines(part, |_, line, _| bytes.extend_from_slice(line)).await?;
        Ok(Lines { packing, line_bytes, bytes })
    }

    /// Each line of a part, with the bytes that it adds to a token.
    async fn lines(&self, part: usize, mut take: impl FnMut(Packing, &[u8], usize)) -> Result<()> {
        let (packing, source) = (self.layout.turned[part], &self.sources[part]);
        let part = &self.layout.parts[part];
        let read = segments(&part.bytes).map(|bytes| source::read(source.as_ref(), bytes));
        let mut chunks = stream::iter(read).buffered(self.streams.max(1));
        let mut framer = RowFramer::new(0, packing.line_bytes(self.layout.rows) as usize);
        // Codes that the last line has room for and the token does not have.
        let mut left = part.share.width() as usize;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            self.observer.event(&Event::Received { bytes: chunk.len() as u64 });
            for block in framer.push(chunk) {
                for line in block.rows() {
                    let count = packing.width().min(left);
                    left -= count;
                    take(packing, line, count);
                }
            }
        }
        match left > 0 || framer.held() > 0 {
            true => Err(lost("a source sent less than was asked for")),
            false => Ok(()),
        }
    }

    fn in_step(&self, row_bytes: u64) -> Result<InStep> {
        InStep::new(self.tokens()?, row_bytes as usize).map_err(|_| self.too_many())
    }

    fn tokens(&self) -> Result<usize> {
        usize::try_from(self.layout.rows).map_err(|_| self.too_many())
    }

    fn too_many(&self) -> Error {
        let what =
            format!("what is kept of {} tokens in step does not fit into memory", self.layout.rows);
        Error::Usage { what }
    }
}
