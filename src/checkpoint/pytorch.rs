//! What `torch.save` writes since PyTorch 1.6: a zip archive of a pickle, which tells of the tensors,
//! and of storages, which hold their elements.
//!
//! The archive's directory lies at its end; the pickle is
//! [read without building anything](super::pickle). Where a member's bytes begin is told by a header
//! before them alone, which is read for those tensors that are asked for. Members must be stored, not
//! compressed, as `torch.save` does. By [PKWARE's note](https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT)
//! and [PyTorch's own](https://docs.pytorch.org/docs/stable/notes/serialization.html).

use super::decode::{HeaderDecoder, Step};
use super::pickle::{Id, Object, Pickle};
use super::{Dtype, TensorRecord};
use crate::error::{Error, Result};
use crate::quote;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Bytes of the end that are asked for first: the directory of a thousand members.
const TAIL: u64 = 128 << 10;

/// The longest directory that is read.
const MAX_DIRECTORY: u64 = 64 << 20;

/// The longest pickle that is read; those of the largest checkpoints known have a few MB.
const MAX_PICKLE: u64 = 16 << 20;

/// The most sides of a tensor, which is PyTorch's own limit.
const MAX_SIDES: usize = 64;

/// How many times a tensor may be made a parameter, one inside of another: once is usual.
const MAX_MADE: usize = 8;

/// The most that is told of a tensor's other attributes; PyTorch knows two.
const MAX_ATTRIBUTES: usize = 16;

/// Bytes of a header before a member, without its name and what follows it.
const LOCAL: u64 = 30;

/// What may follow a name: PyTorch fills it up to 64 bytes.
const EXTRA: u64 = u16::MAX as u64;

/// Keys under which trainers put what a model has learnt.
const STATES: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

const NONE: &str = "not a checkpoint of PyTorch: it is no whole zip archive, as these are since version 1.6; \
                    what older ones wrote can be loaded and saved again";

/// What is known of a tensor's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// It lies in a member of the archive whose header has not been read.
    Unplaced(Place),
    /// Its bytes are no rows one after another, or are not known.
    Strange(String),
}

/// A tensor's place in a member of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    entry: Entry,
    /// The tensor's bytes, counted from the member's first.
    inside: Range<u64>,
}

/// A member of the archive, by its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: Vec<u8>,
    /// Where its header begins.
    header: u64,
    /// Where it must have ended: the next header, or the directory.
    limit: u64,
    size: u64,
}

impl Place {
    /// The bytes that tell where the tensor's are.
    pub fn header(&self) -> Range<u64> {
        self.entry.head()
    }

    /// The tensor's bytes in the file, from those of the header.
    pub fn bytes(&self, header: &[u8]) -> std::result::Result<Range<u64>, String> {
        let data = self.entry.data(header)?;
        Ok(data.start + self.inside.start..data.start + self.inside.end)
    }
}

impl Entry {
    fn head(&self) -> Range<u64> {
        self.header..self.limit.min(self.header + LOCAL + self.name.len() as u64)
    }

    /// Where its bytes are, from a header and what follows it.
    fn data(&self, header: &[u8]) -> std::result::Result<Range<u64>, String> {
        let name = quote::name(&String::from_utf8_lossy(&self.name));
        let wrong = |what: &str| format!("the header of its member {name} {what}");
        if header.get(..4) != Some(b"PK\x03\x04") {
            return Err(wrong("is none"));
        }
        let number = |at: usize| field(header, at, 2).ok_or_else(|| wrong("is cut off"));
        let (flags, method) = (number(6)?, number(8)?);
        if flags & 1 != 0 || method != 0 {
            return Err(wrong("says that it is compressed or encrypted, which is not read"));
        }
        let (length, extra) = (number(26)?, number(28)?);
        if header.get(30..30 + length as usize) != Some(&self.name) {
            return Err(wrong("is that of another"));
        }
        let start = self.header + LOCAL + length + extra;
        match start.checked_add(self.size) {
            Some(end) if end <= self.limit => Ok(start..end),
            _ => Err(wrong("does not leave room for it")),
        }
    }
}

/// A number of at most eight bytes in a header.
fn field(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..size].copy_from_slice(bytes.get(at..at.checked_add(size)?)?);
    Some(u64::from_le_bytes(wide))
}

/// Decodes the directory and the pickle.
pub struct PyTorch {
    file: String,
    size: u64,
    stage: Stage,
    /// What was read, and where it begins in the file.
    held: BytesMut,
    start: u64,
    members: HashMap<String, Member>,
}

enum Stage {
    /// Nothing is known.
    Begin,
    /// The end of the file has come.
    Tail,
    /// The directory has, whose members these numbers count and whose end is there.
    Directory { count: u64, bytes: Range<u64> },
    /// The pickle has, with the members of the archive.
    Pickle { root: String, entries: HashMap<Vec<u8>, Entry> },
    /// The byte order has, after the pickle's tensors.
    Order { entry: Entry, tensors: Vec<TensorRecord> },
}

impl PyTorch {
    /// A decoder for a file of `size` bytes; the name is for messages.
    pub fn new(file: impl Into<String>, size: u64) -> Self {
        let (held, members) = (BytesMut::new(), HashMap::new());
        Self { file: file.into(), size, stage: Stage::Begin, held, start: 0, members }
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::format(&self.file, what)
    }

    fn need(&mut self, stage: Stage, bytes: Range<u64>) -> Step {
        self.stage = stage;
        self.held = BytesMut::new();
        self.start = bytes.start;
        Step::Need(bytes)
    }

    /// Where the directory is and how many members it has, from the end of the file.
    fn end(&self) -> std::result::Result<(u64, Range<u64>), String> {
        let held = &self.held[..];
        let is_end = |&at: &usize| {
            held[at..].starts_with(b"PK\x05\x06")
                && field(held, at + 20, 2) == Some((held.len() - at).saturating_sub(22) as u64)
        };
        let at = (0..held.len().saturating_sub(21)).rev().find(is_end).ok_or(NONE)?;
        let number = |at: usize, size: usize| field(held, at, size).ok_or(NONE);
        // Where numbers of 64 bits are needed, a longer end stands before this one.
        let long = at.checked_sub(20).filter(|&at| held[at..].starts_with(b"PK\x06\x07"));
        let (count, size, offset) = match long {
            None => (number(at + 10, 2)?, number(at + 12, 4)?, number(at + 16, 4)?),
            Some(locator) => {
                let place = number(locator + 8, 8)?.checked_sub(self.start);
                let place = place.and_then(|place| usize::try_from(place).ok());
                let place = place.filter(|&place| place < locator).ok_or(NONE)?;
                if !held[place..].starts_with(b"PK\x06\x06") {
                    return Err(NONE.into());
                }
                (number(place + 32, 8)?, number(place + 40, 8)?, number(place + 48, 8)?)
            }
        };
        let end =
            offset.checked_add(size).filter(|&end| end <= self.start + at as u64).ok_or(NONE)?;
        // A member takes 46 bytes of the directory at least.
        if size > MAX_DIRECTORY || count > size / 46 {
            return Err(format!("its directory claims {count} members in {size} bytes"));
        }
        Ok((count, offset..end))
    }

    /// The members that a directory lists, by name, and the folder that they are in.
    fn entries(
        directory: &[u8],
        count: u64,
        start: u64,
    ) -> std::result::Result<(String, HashMap<Vec<u8>, Entry>), String> {
        let mut rest = directory;
        let mut entries = Vec::new();
        for _ in 0..count {
            let (entry, length) =
                entry(rest).ok_or("its directory does not hold what it claims")?;
            entries.push(entry);
            rest = &rest[length..];
        }
        entries.sort_by_key(|entry| entry.header);
        let mut limit = start;
        for entry in entries.iter_mut().rev() {
            if entry.header >= limit || limit - entry.header < entry.size {
                return Err("its directory puts members where others are".into());
            }
            entry.limit = limit;
            limit = entry.header;
        }
        let inside = |entry: &Entry, name: &[u8]| {
            entry
                .name
                .strip_suffix(name)
                .is_some_and(|root| !root[..root.len().saturating_sub(1)].contains(&b'/'))
        };
        if entries.iter().any(|entry| inside(entry, b"/constants.pkl")) {
            return Err(
                "it is a TorchScript program, which is not read; its state_dict() is, if saved"
                    .into(),
            );
        }
        let pickle = entries.iter().find(|entry| inside(entry, b"/data.pkl"));
        let pickle = pickle
            .ok_or("it is a zip archive without a data.pkl, and so no checkpoint of PyTorch")?;
        let root = pickle.name.strip_suffix(b"data.pkl").unwrap_or_default();
        let root =
            String::from_utf8(root.to_vec()).map_err(|_| "the names of its members are no text")?;
        let count = entries.len();
        let entries: HashMap<_, _> =
            entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        match entries.len() == count {
            true => Ok((root, entries)),
            false => Err("its directory names a member twice".into()),
        }
    }

    /// What a member holds, if all of it has been read.
    fn content(&self, entry: &Entry) -> std::result::Result<&[u8], String> {
        let from = |at: u64| usize::try_from(at.checked_sub(self.start)?).ok();
        let held = |range: Range<u64>| self.held.get(from(range.start)?..from(range.end)?);
        let header = from(entry.header).and_then(|at| self.held.get(at..)).unwrap_or_default();
        let data = entry.data(header)?;
        held(data).ok_or_else(|| "a member's header is longer than is read".into())
    }
}

/// The first member of a directory, whose limit is not known yet, and the length of its record.
fn entry(record: &[u8]) -> Option<(Entry, usize)> {
    let number = |at: usize, size: usize| field(record, at, size);
    if !record.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (method, flags) = (number(10, 2)?, number(8, 2)?);
    let (mut stored, mut size, mut header) = (number(20, 4)?, number(24, 4)?, number(42, 4)?);
    let [name, extra, comment] = [28, 30, 32].map(|at| number(at, 2));
    let name_end = 46 + name? as usize;
    let extra_end = name_end + extra? as usize;
    let name = record.get(46..name_end)?.to_vec();
    let mut extra = record.get(name_end..extra_end)?;
    while let (Some(kind), Some(length)) = (field(extra, 0, 2), field(extra, 2, 2)) {
        let content = extra.get(4..4 + length as usize)?;
        if kind == 1 {
            // Numbers of 64 bits, of those that do not fit.
            let wide = [&mut size, &mut stored, &mut header];
            let wide = wide.into_iter().filter(|number| **number == 0xffff_ffff);
            for (place, number) in wide.enumerate() {
                *number = field(content, 8 * place, 8)?;
            }
        }
        extra = &extra[4 + length as usize..];
    }
    // A member that is compressed is refused where it is needed, by its own header.
    let plain = method == 0 && flags & 1 == 0;
    (!plain || stored == size).then_some(())?;
    let length = extra_end + comment? as usize;
    (length <= record.len()).then_some((Entry { name, header, limit: 0, size: stored }, length))
}

impl HeaderDecoder for PyTorch {
    fn feed(&mut self, part: Bytes) {
        self.held.extend_from_slice(&part);
    }

    fn members(&mut self) -> HashMap<String, Member> {
        std::mem::take(&mut self.members)
    }

    fn step(&mut self) -> Result<Step> {
        match std::mem::replace(&mut self.stage, Stage::Begin) {
            Stage::Begin if self.size == 0 => Err(self.wrong(NONE)),
            Stage::Begin => Ok(self.need(Stage::Tail, self.size.saturating_sub(TAIL)..self.size)),
            Stage::Tail => {
                let (count, bytes) = self.end().map_err(|what| self.wrong(what))?;
                let stage = Stage::Directory { count, bytes: bytes.clone() };
                if bytes.start >= self.start {
                    self.stage = stage;
                    return self.step();
                }
                Ok(self.need(stage, bytes))
            }
            Stage::Directory { count, bytes } => {
                let [first, last] = [bytes.start, bytes.end].map(|at| (at - self.start) as usize);
                let directory = self.held.get(first..last).unwrap_or_default();
                let found = Self::entries(directory, count, bytes.start);
                let (root, entries) = found.map_err(|what| self.wrong(what))?;
                let pickle = &entries[format!("{root}data.pkl").as_bytes()];
                if pickle.size > MAX_PICKLE {
                    let what =
                        format!("its pickle has {} bytes, more than {MAX_PICKLE}", pickle.size);
                    return Err(self.wrong(what));
                }
                // The byte order follows it as a rule.
                let whole = |entry: &Entry| entry.limit.min(entry.head().end + EXTRA + entry.size);
                let (start, mut end) = (pickle.header, whole(pickle));
                let order = entries.get(format!("{root}byteorder").as_bytes());
                if let Some(order) = order.filter(|order| {
                    order.size < EXTRA && order.header > start && order.header < end + TAIL
                }) {
                    end = end.max(whole(order));
                }
                Ok(self.need(Stage::Pickle { root, entries }, start..end))
            }
            Stage::Pickle { root, entries } => {
                let pickle = &entries[format!("{root}data.pkl").as_bytes()];
                let storages = Storages { root: &root, entries: &entries };
                let read = self.content(pickle).and_then(|bytes| storages.tensors(bytes));
                let (tensors, members) = read.map_err(|what| self.wrong(what))?;
                self.members = members;
                // Before PyTorch 2.1 nothing said, and all machines were alike.
                let Some(order) = entries.get(format!("{root}byteorder").as_bytes()) else {
                    return Ok(Step::Done(tensors));
                };
                let stage = Stage::Order { entry: order.clone(), tensors };
                let held = self.start..self.start + self.held.len() as u64;
                if held.contains(&order.header) && order.head().end + order.size <= held.end {
                    self.stage = stage;
                    return self.step();
                }
                let end = order.limit.min(order.head().end + EXTRA + order.size.min(EXTRA));
                Ok(self.need(stage, order.header..end))
            }
            Stage::Order { entry, tensors } => {
                match self.content(&entry).map_err(|what| self.wrong(what))? {
                    b"little" => Ok(Step::Done(tensors)),
                    _ => Err(self.wrong("its elements are not in little-endian order")),
                }
            }
        }
    }
}

/// The storages of an archive.
struct Storages<'a> {
    root: &'a str,
    entries: &'a HashMap<Vec<u8>, Entry>,
}

type Found = (Vec<TensorRecord>, HashMap<String, Member>);

impl Storages<'_> {
    /// The tensors that a pickle names.
    fn tensors(&self, bytes: &[u8]) -> std::result::Result<Found, String> {
        let pickle = Pickle::read(bytes)?;
        let state = state_of(&pickle)?;
        // Of two of a name the later counts, as for Python.
        let mut named: BTreeMap<&str, Id> = BTreeMap::new();
        for &(key, value) in pickle.items(state) {
            if let Some(name) = pickle.text(key) {
                named.insert(name, value);
            }
        }
        let (mut records, mut members) = (Vec::new(), HashMap::new());
        for (name, value) in named {
            let wrong = |what: String| format!("the tensor {} {what}", quote::name(name));
            let Some(tensor) = Tensor::of(&pickle, value) else { continue };
            let (dtype, shape, member) = tensor.map_err(wrong)?.placed(self).map_err(wrong)?;
            let length = match &member {
                Member::Unplaced(place) => place.inside.end - place.inside.start,
                Member::Strange(_) => 0,
            };
            // Counted from the member's beginning, until that is known.
            records.push(TensorRecord { name: name.to_owned(), dtype, shape, range: 0..length });
            members.insert(name.to_owned(), member);
        }
        let at = |record: &TensorRecord| match &members[&record.name] {
            Member::Unplaced(place) => (place.entry.header, place.inside.start),
            Member::Strange(_) => (u64::MAX, 0),
        };
        records.sort_by(|a, b| (at(a), &a.name).cmp(&(at(b), &b.name)));
        Ok((records, members))
    }
}

/// The dictionary of tensors that a pickle is, or that it holds under one of the usual keys.
fn state_of(pickle: &Pickle<'_>) -> std::result::Result<Id, String> {
    let has_tensors = |id: Id| {
        pickle
            .items(id)
            .iter()
            .any(|&(key, value)| pickle.text(key).is_some() && Tensor::of(pickle, value).is_some())
    };
    let root = pickle.root();
    let under = |key: &str| {
        let mut items = pickle.items(root).iter().rev();
        items.find(|(at, _)| pickle.text(*at) == Some(key)).map(|&(_, value)| value)
    };
    // A trainer's file may hold a tensor or two beside: what it counted, the state of its dice.
    let inner = STATES.iter().filter_map(|key| under(key)).find(|&id| has_tensors(id));
    inner.or_else(|| has_tensors(root).then_some(root)).ok_or_else(|| match pickle.made_by(root) {
        Some((class, _)) if class != "collections OrderedDict" => {
            let class = quote::name(&class.replace(' ', "."));
            format!("it holds a {class}, which is not built; save its state_dict() in its place")
        }
        _ => format!("it holds no tensors by name, nor under {}", STATES.join(", ")),
    })
}

/// What a pickle says of a tensor.
enum Tensor {
    Plain {
        /// Of its elements, and of its storage's where that counts others.
        dtype: Dtype,
        storage: Dtype,
        key: String,
        /// Elements of its storage.
        count: u64,
        /// Its first element.
        offset: u64,
        shape: Vec<u64>,
        strides: Vec<u64>,
    },
    Strange(String),
}

impl Tensor {
    /// The tensor that an object is, if it is one.
    fn of(pickle: &Pickle<'_>, mut id: Id) -> Option<std::result::Result<Self, String>> {
        for _ in 0..MAX_MADE {
            let (function, arguments) = pickle.made_by(id)?;
            match (function, arguments) {
                (
                    "torch._utils _rebuild_parameter"
                    | "torch._utils _rebuild_parameter_with_state",
                    [data, ..],
                ) => id = *data,
                ("torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2", arguments) => {
                    let conjugate = arguments.get(6).is_some_and(|&more| {
                        let mut set = pickle.items(more).iter().take(MAX_ATTRIBUTES);
                        set.any(|&(_, set)| !matches!(pickle.object(set), Object::Bool(false)))
                    });
                    let plain = Self::plain(pickle, arguments, None);
                    return Some(match conjugate {
                        true => Ok(Self::Strange(
                            "it is stored as another's conjugate or negative".into(),
                        )),
                        false => plain.ok_or_else(|| "is none that PyTorch writes".into()),
                    });
                }
                ("torch._utils _rebuild_tensor_v3", arguments) => {
                    let dtype = arguments.get(6).and_then(|&dtype| pickle.global(dtype));
                    let plain = dtype.and_then(|dtype| Self::plain(pickle, arguments, Some(dtype)));
                    return Some(plain.ok_or_else(|| "is none that PyTorch writes".into()));
                }
                (other, _) if other.starts_with("torch") && other.contains(" _rebuild") => {
                    let by = quote::name(&other.replace(' ', "."));
                    return Some(Ok(Self::Strange(format!(
                        "it is built by {by}, and no plain tensor"
                    ))));
                }
                _ => return None,
            }
        }
        Some(Err("is made a parameter again and again".into()))
    }

    fn plain(pickle: &Pickle<'_>, arguments: &[Id], dtype: Option<&str>) -> Option<Self> {
        let [storage, offset, shape, strides, ..] = *arguments else { return None };
        let Object::Elsewhere(storage) = *pickle.object(storage) else { return None };
        let [kind, class, key, _, count, ..] = *pickle.tuple(storage)? else { return None };
        if pickle.text(kind)? != "storage" {
            return None;
        }
        let storage = dtype_of(pickle.global(class)?);
        Some(Self::Plain {
            dtype: dtype.map_or_else(|| storage.clone(), dtype_of),
            storage,
            key: pickle.text(key)?.to_owned(),
            count: pickle.count(count)?,
            offset: pickle.count(offset)?,
            shape: pickle.counts(shape, MAX_SIDES)?,
            strides: pickle.counts(strides, MAX_SIDES)?,
        })
    }

    /// Where it lies; an error where it lies outside of its storage.
    fn placed(
        self,
        storages: &Storages<'_>,
    ) -> std::result::Result<(Dtype, Vec<u64>, Member), String> {
        let (dtype, storage, key, count, offset, shape, strides) = match self {
            Self::Strange(why) => {
                return Ok((
                    Dtype::Unknown("no plain tensor".into()),
                    Vec::new(),
                    Member::Strange(why),
                ));
            }
            Self::Plain { dtype, storage, key, count, offset, shape, strides } => {
                (dtype, storage, key, count, offset, shape, strides)
            }
        };
        let entry = storages.entries.get(format!("{}data/{key}", storages.root).as_bytes());
        let entry = entry.ok_or("has no storage in the archive")?;
        let bytes = |dtype: &Dtype| dtype.bits().map(|bits| bits / 8);
        let Some((size, storage)) = bytes(&dtype).zip(bytes(&storage)) else {
            let why = format!("its type {} is unknown", quote::name(dtype.name()));
            return Ok((dtype, shape, Member::Strange(why)));
        };
        if count.checked_mul(storage) != Some(entry.size) {
            return Err("has a storage of another size than its member's".into());
        }
        let elements = shape.iter().try_fold(1u64, |all, &side| all.checked_mul(side));
        let end = elements.and_then(|all| offset.checked_add(all)?.checked_mul(size));
        if strides.len() != shape.len() {
            return Err("has strides of other sides than it has".into());
        }
        if !is_row_major(&shape, &strides) {
            let why =
                format!("its rows do not lie one after another: strides {strides:?} of {shape:?}");
            return Ok((dtype, shape, Member::Strange(why)));
        }
        match end {
            Some(end) if end <= entry.size => {
                let place = Place { entry: entry.clone(), inside: offset * size..end };
                Ok((dtype, shape, Member::Unplaced(place)))
            }
            _ => Err("lies outside of its storage".into()),
        }
    }
}

/// Whether elements lie in the order of their places, without gaps.
fn is_row_major(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = Some(1u64);
    let sides = shape.iter().zip(strides).rev();
    shape.contains(&0)
        || sides.into_iter().all(|(&side, &stride)| {
            let fits = side == 1 || expected == Some(stride);
            expected = expected.and_then(|all| all.checked_mul(side));
            fits
        })
}

/// The type of a class of storages, or of a `torch.dtype`; of what has none, its name.
fn dtype_of(global: &str) -> Dtype {
    let name = global.rsplit(' ').next().unwrap_or(global);
    match name {
        "FloatStorage" | "float32" | "float" => Dtype::F32,
        "HalfStorage" | "float16" | "half" => Dtype::F16,
        "BFloat16Storage" | "bfloat16" => Dtype::Bf16,
        "DoubleStorage" | "float64" | "double" => Dtype::F64,
        "LongStorage" | "int64" | "long" => Dtype::I64,
        "IntStorage" | "int32" | "int" => Dtype::I32,
        "ShortStorage" | "int16" | "short" => Dtype::I16,
        "CharStorage" | "int8" => Dtype::I8,
        "ByteStorage" | "UntypedStorage" | "uint8" => Dtype::U8,
        "BoolStorage" | "bool" => Dtype::Bool,
        "ComplexFloatStorage" | "complex64" => Dtype::C64,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        other => Dtype::Unknown(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_of_a_parameter_of_a_parameter_ends() {
        let made = |times: usize| {
            let begin = b"ctorch._utils\n_rebuild_parameter\n(".repeat(times);
            let bytes = [&begin[..], b"N", &b"tR".repeat(times), b"."].concat();
            let pickle = Pickle::read(&bytes).unwrap();
            Tensor::of(&pickle, pickle.root()).map(|tensor| tensor.is_err())
        };
        assert_eq!((made(1), made(7), made(8), made(1000)), (None, None, Some(true), Some(true)));
    }
}
