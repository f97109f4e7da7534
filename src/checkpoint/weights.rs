//! Which files hold a model's weights, and which of them holds a tensor.
//!
//! The order is that of the official loaders: `model.safetensors`, else what
//! `model.safetensors.index.json` names, else `pytorch_model.bin` and its index. Other sets of weights in the same repository, such as
//! Mistral's `consolidated*.safetensors`, are never mixed with these.

use super::{
    Entries, Gguf, HeaderDecoder, Index, MAX_INDEX, Member, PyTorch, Safetensors, TensorRecord,
    decode,
};
use crate::error::{Error, Result};
use crate::quote;
use crate::resolve::Snapshot;
use crate::source::{self, ByteSource};
use futures::StreamExt as _;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// One file with its header read.
struct Opened {
    source: Arc<dyn ByteSource>,
    tensors: Vec<TensorRecord>,
    /// The tensors' places in that list, by name.
    by_name: Vec<u32>,
    /// Of those whose bytes are told elsewhere in the file, or are no rows.
    members: HashMap<String, Member>,
    /// The vocabulary in the header.
    entries: Option<Entries>,
}

impl Opened {
    fn place(&self, tensor: &str) -> Option<usize> {
        let named = |&at: &u32| self.tensors[at as usize].name.as_str().cmp(tensor);
        let at = self.by_name.binary_search_by(named).ok()?;
        Some(self.by_name[at] as usize)
    }

    fn record(&self, tensor: &str) -> Option<&TensorRecord> {
        self.place(tensor).map(|at| &self.tensors[at])
    }

    /// Reads where a tensor's bytes are, if that is not known yet.
    async fn placed(&self, tensor: &str, file: &str) -> Result<Option<Range<u64>>> {
        let Some(Member::Unplaced(place)) = self.members.get(tensor) else { return Ok(None) };
        let header = source::read(self.source.as_ref(), place.header()).await?;
        place.bytes(&header).map(Some).map_err(|what| Error::format(file, what))
    }
}

/// The weights of one model. Headers are read when a tensor of their file is looked up, and once.
pub struct Checkpoint {
    snapshot: Arc<dyn Snapshot>,
    folder: String,
    layout: Layout,
    opened: HashMap<String, Opened>,
}

enum Layout {
    /// Everything in one file.
    Single(String),
    /// Shards, and the index that names them.
    Sharded(Index),
    /// Parts that all have been opened.
    Split(Vec<String>),
}

/// What the user or the model's name says about where the weights are.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    /// Empty, or a folder with a closing `/`.
    pub folder: &'a str,
    /// One file of that folder.
    pub file: Option<&'a str>,
    /// Whether a tensor was named, so that a single shard is enough.
    pub tensor: bool,
}

/// Headers that are read at a time.
const HEADERS: usize = 4;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What PyTorch's own checkpoints are called.
const PYTORCH: &str = "pytorch_model.bin";
const PYTORCH_INDEX: &str = "pytorch_model.bin.index.json";

impl Checkpoint {
    /// Finds the files. `warn` is told what the user should know.
    pub async fn find(
        snapshot: Arc<dyn Snapshot>,
        chosen: Chosen<'_>,
        warn: &mut (dyn FnMut(String) + Send),
    ) -> Result<Self> {
        let mut found = Self {
            snapshot,
            folder: chosen.folder.to_owned(),
            layout: Layout::Single(String::new()),
            opened: HashMap::new(),
        };
        found.layout = match chosen.file {
            Some(file) if file.ends_with(".index.json") => match found.index(file).await? {
                Some(index) => Layout::Sharded(index),
                None => {
                    return Err(Error::NoSuchFile { file: found.shown(file) });
                }
            },
            Some(file) => found.around(file, chosen.tensor).await?,
            None => found.standard(chosen.tensor, warn).await?,
        };
        Ok(found)
    }

    /// The standard names. Both are looked up at a time: the answers do not depend on each other.
    async fn standard(
        &mut self,
        tensor: bool,
        warn: &mut (dyn FnMut(String) + Send),
    ) -> Result<Layout> {
        let single = self.path(SINGLE);
        let (source, index) = futures::join!(self.snapshot.open(&single), self.index(INDEX));
        // Offline, what is not in the cache may exist; one of the two names is enough.
        let (source, index) = match (source, index) {
            (Err(Error::Offline { .. }), Ok(Some(index))) => (None, Some(index)),
            (Ok(Some(source)), Err(Error::Offline { .. })) => (Some(source), None),
            (source, index) => (source?, index?),
        };
        match (source, index) {
            (None, Some(index)) => Ok(Layout::Sharded(index)),
            (Some(_), Some(index)) if index.shards().iter().any(|shard| shard == SINGLE) => {
                Ok(Layout::Sharded(index))
            }
            (Some(source), index) => {
                if index.is_some() {
                    warn(format!(
                        "{SINGLE} and {INDEX} are both there and name different files; {SINGLE} \
                         is read, as transformers does (--file {INDEX} reads the other)"
                    ));
                }
                self.header(SINGLE, source).await?;
                Ok(Layout::Single(SINGLE.to_owned()))
            }
            (None, None) => self.fallback(tensor, warn).await,
        }
    }

    /// Without a standard name: the only safetensors file there is, or what there is instead.
    async fn fallback(
        &mut self,
        tensor: bool,
        warn: &mut (dyn FnMut(String) + Send),
    ) -> Result<Layout> {
        let listed = self.snapshot.list().await;
        let names: Vec<&str> = listed.iter().filter_map(|n| n.strip_prefix(&self.folder)).collect();
        let is_weights = |name: &&&str| {
            name.ends_with(".safetensors") && !name.contains('/') && !name.starts_with("adapter_")
        };
        let weights: Vec<&&str> = names.iter().filter(is_weights).collect();
        if let [only] = weights[..] {
            let layout = self.around(only, tensor).await?;
            if let Layout::Single(file) = &layout {
                warn(format!("there is no {SINGLE}; {file}, the only safetensors file, is read"));
            }
            return Ok(layout);
        }
        if names.contains(&PYTORCH) {
            warn(format!("there is no {SINGLE}; {PYTORCH} is read"));
            return self.around(PYTORCH, tensor).await;
        }
        if names.contains(&PYTORCH_INDEX)
            && let Some(index) = self.index(PYTORCH_INDEX).await?
        {
            warn(format!("there is no {SINGLE}; what {PYTORCH_INDEX} names is read"));
            return Ok(Layout::Sharded(index));
        }
        let gguf: Vec<&&str> =
            names.iter().filter(|name| is_gguf(name) && !name.contains('/')).collect();
        let first = gguf.first().and_then(|name| split_of(name));
        let one = match (gguf.as_slice(), first) {
            ([only], None) => Some(*only),
            ([first, rest @ ..], Some((prefix, total))) if gguf.len() as u64 == total => {
                let same = |name: &&&&str| split_of(name) == Some((prefix, total));
                (rest.iter().filter(|name| same(name)).count() == rest.len()).then_some(*first)
            }
            _ => None,
        };
        if let Some(file) = one {
            let what = if first.is_some() { "with its other parts" } else { "the only GGUF file" };
            warn(format!("there is no {SINGLE}; {file}, {what}, is read"));
            return self.around(file, tensor).await;
        }
        let model = self.snapshot.origin().id;
        Err(Error::NoWeights { model, instead: instead(&names) })
    }

    /// A file that the user named: judged with its index, if it is one of several.
    async fn around(&mut self, file: &str, tensor: bool) -> Result<Layout> {
        if let Some((prefix, total)) = split_of(file) {
            return self.split(prefix, total).await;
        }
        let path = self.path(file);
        let shard = shard_prefix(file);
        let (index, end) = match is_pytorch(file) {
            true => (PYTORCH_INDEX, "bin"),
            false => (INDEX, "safetensors"),
        };
        let mut candidates = vec![index.to_owned()];
        if let Some(prefix) = shard {
            candidates.insert(0, format!("{prefix}.{end}.index.json"));
            if let Some((stem, variant)) = prefix.rsplit_once('.') {
                candidates.push(format!("{stem}.{end}.index.{variant}.json"));
            }
            candidates.dedup();
        }
        for candidate in candidates {
            match self.index(&candidate).await {
                Ok(Some(index)) if index.shards().iter().any(|shard| shard == file) => {
                    return Ok(Layout::Sharded(index));
                }
                Ok(_) | Err(Error::Offline { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let source = self.snapshot.open(&path).await?;
        let source = source.ok_or_else(|| Error::NoSuchFile { file: self.shown(file) })?;
        if shard.is_some() && !tensor {
            return Err(Error::NoUnembedding {
                model: self.shown(file),
                why: "it is one shard of several, and without their index it cannot show whether \
                      the head is in another; name a tensor of it with --tensor"
                    .into(),
            });
        }
        self.header(file, source).await?;
        Ok(Layout::Single(file.to_owned()))
    }

    /// A GGUF file in several parts, of which each tells its own tensors alone.
    async fn split(&mut self, prefix: &str, total: u64) -> Result<Layout> {
        let files: Vec<String> =
            (1..=total).map(|part| format!("{prefix}-{part:05}-of-{total:05}.gguf")).collect();
        // Told apart: that one file of several is missing, and that there is none.
        let missing = |error| match error {
            Error::NoSuchFile { file } => {
                Error::format(file, format!("it is one of {total} parts, and is not there"))
            }
            other => other,
        };
        let headers = {
            let read = files.iter().map(|file| self.part(file));
            futures::stream::iter(read).buffered(HEADERS).collect::<Vec<_>>().await
        };
        let mut names: HashMap<&str, &str> = HashMap::new();
        let headers = headers.into_iter().collect::<Result<Vec<_>>>().map_err(missing)?;
        for (file, opened) in files.iter().zip(&headers) {
            for tensor in opened.tensors.iter() {
                if let Some(other) = names.insert(&tensor.name, file) {
                    let what = format!("{} is in {other}, too", quote::name(&tensor.name));
                    return Err(Error::format(file, what));
                }
            }
        }
        self.opened.extend(files.iter().cloned().zip(headers));
        Ok(Layout::Split(files))
    }

    async fn part(&self, file: &str) -> Result<Opened> {
        let source = self.snapshot.open(&self.path(file)).await?;
        let source = source.ok_or_else(|| Error::NoSuchFile { file: self.shown(file) })?;
        self.decoded(file, source).await
    }

    async fn index(&self, file: &str) -> Result<Option<Index>> {
        match self.snapshot.read(&self.path(file), MAX_INDEX).await? {
            Some(json) => Index::parse(&self.shown(file), &json).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the header of an opened file, and keeps it.
    async fn header(&mut self, file: &str, source: Arc<dyn ByteSource>) -> Result<()> {
        let opened = self.decoded(file, source).await?;
        self.opened.insert(file.to_owned(), opened);
        Ok(())
    }

    async fn decoded(&self, file: &str, source: Arc<dyn ByteSource>) -> Result<Opened> {
        let (shown, size) = (self.shown(file), source.size());
        let mut decoder: Box<dyn HeaderDecoder + Send> = match file {
            file if is_gguf(file) => Box::new(Gguf::new(shown, size)),
            file if is_pytorch(file) => Box::new(PyTorch::new(shown, size)),
            _ => Box::new(Safetensors::new(shown, size)),
        };
        let tensors = decode(source.as_ref(), decoder.as_mut()).await?;
        let (entries, members) = (decoder.entries(), decoder.members());
        // A header of at most 100 MB has fewer tensors than can be counted so.
        let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
        by_name.sort_unstable_by_key(|&at| &tensors[at as usize].name);
        Ok(Opened { source, tensors, by_name, members, entries })
    }

    /// A shard that the index names, with its header.
    async fn shard(&self, file: &str) -> Result<Opened> {
        let source = self.snapshot.open(&self.path(file)).await?;
        let source = source.ok_or_else(|| {
            let what = format!("the index names it, but it does not exist in {}", self.model());
            Error::format(file, what)
        })?;
        self.decoded(file, source).await
    }

    /// Reads what tells of these tensors, several files at a time.
    pub async fn load(&mut self, tensors: &[String]) -> Result<()> {
        self.headers(tensors).await?;
        let placed = {
            let read = tensors.iter().map(async |tensor| {
                let Some(file) = self.file_of(tensor) else { return Ok(None) };
                let Some(opened) = self.opened.get(file) else { return Ok(None) };
                let bytes = opened.placed(tensor, &self.shown(file)).await?;
                Ok(bytes.map(|bytes| (file.to_owned(), tensor, bytes)))
            });
            futures::stream::iter(read).buffered(HEADERS).collect::<Vec<_>>().await
        };
        for placed in placed {
            let Some((file, tensor, bytes)) = placed? else { continue };
            if let Some(opened) = self.opened.get_mut(&file)
                && let Some(at) = opened.place(tensor)
            {
                opened.tensors[at].range = bytes;
                opened.members.remove(tensor);
            }
        }
        Ok(())
    }

    /// Reads the headers of the files that hold these tensors.
    async fn headers(&mut self, tensors: &[String]) -> Result<()> {
        let Layout::Sharded(index) = &self.layout else {
            return Ok(());
        };
        let mut files: Vec<String> = tensors
            .iter()
            .filter_map(|tensor| index.shard(tensor))
            .filter(|file| !self.opened.contains_key(*file))
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        let headers = {
            let read = files.iter().map(|file| self.shard(file));
            futures::stream::iter(read).buffered(HEADERS).collect::<Vec<_>>().await
        };
        // What is told of several faults does not depend on which came first.
        for (file, opened) in files.into_iter().zip(headers) {
            self.opened.insert(file, opened?);
        }
        Ok(())
    }

    /// The names of all tensors.
    pub fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.layout {
            Layout::Sharded(index) => Box::new(index.names()),
            Layout::Single(file) => self.names_in(std::slice::from_ref(file)),
            Layout::Split(files) => self.names_in(files),
        }
    }

    fn names_in<'a>(&'a self, files: &'a [String]) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        let opened = files.iter().filter_map(|file| self.opened.get(file));
        Box::new(opened.flat_map(|opened| opened.tensors.iter()).map(|tensor| tensor.name.as_str()))
    }

    /// The file that should hold a tensor.
    fn file_of(&self, tensor: &str) -> Option<&str> {
        match &self.layout {
            Layout::Sharded(index) => index.shard(tensor),
            Layout::Single(file) => Some(file),
            Layout::Split(files) => {
                let holds = |file: &&String| {
                    self.opened.get(*file).is_some_and(|opened| opened.record(tensor).is_some())
                };
                files.iter().find(holds).map(String::as_str)
            }
        }
    }

    /// A tensor's record, if what tells of it was read.
    pub fn record(&self, tensor: &str) -> Option<&TensorRecord> {
        let opened = self.opened.get(self.file_of(tensor)?)?;
        match opened.members.get(tensor) {
            Some(Member::Unplaced(_)) => None,
            _ => opened.record(tensor),
        }
    }

    /// A tensor's record with its file's name and bytes; where index and header disagree, says so.
    pub fn tensor(&self, tensor: &str) -> Result<(&TensorRecord, &str, Arc<dyn ByteSource>)> {
        let unknown = || Error::Unreadable {
            tensor: tensor.to_owned(),
            why: format!("{} has no tensor of that name", self.model()),
        };
        let file = self.file_of(tensor).ok_or_else(unknown)?;
        let opened = self.opened.get(file).ok_or_else(unknown)?;
        if let Some(member) = opened.members.get(tensor) {
            let why = match member {
                Member::Strange(why) => why.clone(),
                Member::Unplaced(_) => "its bytes have not been looked for".to_owned(),
            };
            return Err(Error::Unreadable { tensor: tensor.to_owned(), why });
        }
        match opened.record(tensor) {
            Some(record) => Ok((record, file, Arc::clone(&opened.source))),
            None if !matches!(self.layout, Layout::Sharded(_)) => Err(unknown()),
            None => {
                let what = format!(
                    "the index says that it holds {}, but it does not",
                    quote::name(tensor)
                );
                Err(Error::format(file, what))
            }
        }
    }

    /// Takes the vocabulary that a header holds, where one does.
    pub fn take_entries(&mut self) -> Option<Entries> {
        self.opened.values_mut().find_map(|opened| opened.entries.take())
    }

    /// Bytes of all weights: what the index states, or the only file's length.
    pub fn total_bytes(&self) -> Option<u64> {
        match &self.layout {
            Layout::Sharded(index) => index.total_bytes(),
            Layout::Single(file) => self.opened.get(file).map(|opened| opened.source.size()),
            Layout::Split(files) => {
                files.iter().map(|file| Some(self.opened.get(file)?.source.size())).sum()
            }
        }
    }

    fn path(&self, file: &str) -> String {
        format!("{}{file}", self.folder)
    }

    fn model(&self) -> String {
        self.snapshot.origin().id
    }

    fn shown(&self, file: &str) -> String {
        let origin = self.snapshot.origin();
        match origin.source {
            crate::resolve::Place::File | crate::resolve::Place::Url => origin.id,
            _ => format!("{}/{}{file}", origin.id.trim_end_matches('/'), self.folder),
        }
    }
}

/// The name before `-00001-of-00003.safetensors`, or its like with `_` or `.bin`; `None` for any other name.
fn shard_prefix(file: &str) -> Option<&str> {
    let stem = file.strip_suffix(".safetensors").or_else(|| file.strip_suffix(".bin"))?;
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once(['-', '_'])?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(total) && digits(number)).then_some(prefix)
}

fn is_gguf(file: &str) -> bool {
    file.ends_with(".gguf")
}

/// Whether a file is PyTorch's, by its name.
fn is_pytorch(file: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| file.ends_with(end))
}

/// What is before `-00001-of-00003.gguf`, and how many parts there are; `None` for any other name.
fn split_of(file: &str) -> Option<(&str, u64)> {
    let (rest, total) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, part) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let total: u64 = total.parse().ok().filter(|_| digits(total) && digits(part))?;
    (1..=MAX_PARTS).contains(&total).then_some((prefix, total))
}

/// The most parts of a split file, all of whose headers are read.
const MAX_PARTS: u64 = 1000;

/// What a repository without readable weights has instead, for the message.
fn instead(names: &[&str]) -> String {
    let find = |test: &dyn Fn(&str) -> bool| names.iter().copied().find(|name| test(name));
    let weights: Vec<&str> =
        names.iter().copied().filter(|n| n.ends_with(".safetensors")).collect();
    let found = [
        find(&|n| n.starts_with("adapter_")).map(|n| {
            format!("{n}: an adapter only; its base model is named in adapter_config.json")
        }),
        (!weights.is_empty()).then(|| {
            let shown = weights.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            format!("{shown}: name a file or folder with --file")
        }),
        {
            let gguf: Vec<&str> = names.iter().copied().filter(|name| is_gguf(name)).collect();
            let shown = gguf.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            (!gguf.is_empty())
                .then(|| format!("{shown}: {} GGUF files; name one with --file", gguf.len()))
        },
        find(&|n| is_pytorch(n) && n != "training_args.bin")
            .map(|n| format!("{n}: name it with --file, if it holds the weights")),
        find(&|n| n.ends_with(".h5") || n.ends_with(".msgpack") || n.ends_with(".onnx"))
            .map(|n| format!("{n}: this format is not read")),
    ];
    let found: Vec<String> = found.into_iter().flatten().collect();
    match found.as_slice() {
        [] if names.is_empty() => format!("neither {SINGLE} nor {INDEX} is there"),
        [] => format!("none among its {} files", names.len()),
        found => found.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_known_by_their_names() {
        for (name, prefix) in [
            ("model-00001-of-00002.safetensors", Some("model")),
            ("model_00002-of-00072.safetensors", Some("model")),
            ("model-1-of-61.safetensors", Some("model")),
            ("model.fp16-00001-of-00002.safetensors", Some("model.fp16")),
            ("pytorch_model-00001-of-00002.bin", Some("pytorch_model")),
            ("model.safetensors", None),
            ("one-of-two.safetensors", None),
        ] {
            assert_eq!(shard_prefix(name), prefix, "{name}");
        }
    }

    #[test]
    fn what_there_is_instead_is_named() {
        assert!(instead(&["consolidated.00.pth"]).contains("consolidated.00.pth: name it"));
        assert!(instead(&["m.Q4.gguf"]).contains("GGUF"));
        assert!(instead(&["adapter_model.safetensors"]).contains("adapter"));
        assert!(instead(&["README.md"]).contains("none"));
        assert!(instead(&[]).contains("neither"));
    }
}
