//! From a checkpoint to its matrices: which tensors they are, and the sources of their rows.

use super::Which;
use super::sample::sample;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::head::{Config, Considered, Located, Matrix, Names, Part, Role, TieFlag, Told, locate};
use crate::observe::{Event, Observer};
use crate::source::{self, ByteSource, Interleaved, Strand};
use futures::future::try_join_all;
use std::sync::Arc;

/// What small tensors of the chosen one's module say.
async fn told(located: &Located, checkpoint: &Checkpoint) -> Result<Told> {
    let read = async |name: &String| {
        let (record, file, source) = checkpoint.tensor(name)?;
        if record.range.end - record.range.start > Told::MAX {
            return Err(Error::format(file, format!("{} is too long", crate::quote::name(name))));
        }
        let bytes = source::read(source.as_ref(), record.range.clone()).await?;
        Ok((record, file, bytes))
    };
    let names = located.companions.iter().filter(|name| Told::wants(name));
    let mut told = Told::default();
    for (record, file, bytes) in try_join_all(names.map(read)).await? {
        told.add(record, &bytes).map_err(|why| Error::format(file, why))?;
    }
    Ok(told)
}

/// The tensors to read, with the headers of their files loaded; and what else looked like them.
pub(super) async fn choose(
    which: &Which,
    checkpoint: &mut Checkpoint,
    config: &Config,
    model: &str,
    observer: &dyn Observer,
) -> Result<(Vec<Located>, (Vec<Considered>, u64))> {
    let roles: &[Role] = match which {
        Which::Tensor(tensor) => {
            checkpoint.load(std::slice::from_ref(tensor)).await?;
            return Ok((vec![Located::named(tensor)], (Vec::new(), 0)));
        }
        Which::Unembedding => &[Role::Unembedding],
        Which::Embedding => &[Role::Embedding],
        Which::Both => &[Role::Unembedding, Role::Embedding],
    };
    let names = Names::collect(checkpoint.names());
    let mut found: Vec<Located> = Vec::new();
    for &role in roles {
        let wanted: Vec<String> = names.wanted(role).into_iter().map(str::to_owned).collect();
        checkpoint.load(&wanted).await?;
        let record = |name: &str| checkpoint.record(name);
        let mut located = locate(role, &names, config, &record, model).inspect_err(|_| {
            for Considered { name, excluded_by, .. } in names.verdicts(config, &record).0 {
                let why = excluded_by.as_deref().unwrap_or("it is what there is most like it");
                observer.event(&Event::Considered { name: &name, why });
            }
            for TieFlag { source, tied } in config.tie_flags() {
                let why = if tied {
                    "it says that the two are one"
                } else {
                    "it says that the two are not one"
                };
                observer.event(&Event::Considered { name: &source, why });
            }
        })?;
        located.adopt(checkpoint.names());
        if let Some(twin) = &mut located.twin {
            twin.adopt(checkpoint.names());
        }
        let parts: Vec<String> = located.parts().into_iter().map(str::to_owned).collect();
        checkpoint.load(&parts).await?;
        // Where head and embedding are one tensor, it is read once.
        if found.iter().all(|other| other.tensor != located.tensor) {
            found.push(located);
        }
    }
    let verdicts = names.verdicts(config, &|name| checkpoint.record(name));
    Ok((found, verdicts))
}

/// The chosen tensors as rows, with the sources of the spans.
pub(super) async fn matrix(
    located: Located,
    checkpoint: &Checkpoint,
    config: &Config,
    folder: &str,
    connections: usize,
) -> Result<(Matrix, Vec<Arc<dyn ByteSource>>)> {
    let (mut records, mut sources) = (Vec::new(), Vec::new());
    for tensor in [&located.tensor].into_iter().chain(&located.more) {
        let (record, file, source) = checkpoint.tensor(tensor)?;
        records.push((format!("{folder}{file}"), record));
        sources.push(source);
    }
    let twin = located.twin.clone();
    let told = told(&located, checkpoint).await?;
    let quantised = config.quantisation(located.module());
    let companion = |name: &str| checkpoint.record(name);
    let mut matrix = Matrix::new(located, &records, &companion, &quantised, &told)?;
    if let Some(layout) = &mut matrix.layout {
        let strand = |part: &mut Part| {
            let (_, file, source) = checkpoint.tensor(&part.tensor)?;
            part.file = format!("{folder}{file}");
            Ok(Strand { source, bytes: part.bytes.clone(), share: part.share })
        };
        let strands: Vec<Strand> = layout.parts.iter_mut().map(strand).collect::<Result<_>>()?;
        sources = match layout.turned.is_empty() {
            true => vec![Arc::new(Interleaved::new(strands, layout.rows))],
            false => strands.into_iter().map(|strand| strand.source).collect(),
        };
    }
    if let Some(twin) = twin {
        // What cannot be read as rows is not compared, which is no reason to refuse the head.
        match Box::pin(self::matrix(*twin, checkpoint, config, folder, connections)).await {
            // Of an archive both names may be there for one storage.
            Ok((twin, _)) if matrix.is_one_with(&twin) => {
                matrix.tied = Some(true);
                matrix.reason += &format!("; it and {} are stored as one", twin.tensor);
            }
            Ok((twin, of_twin)) => {
                let (own, other) = (sources[0].as_ref(), of_twin[0].as_ref());
                if let Some(sample) = sample(&matrix, own, &twin, other, connections).await? {
                    matrix.sampled(sample);
                }
            }
            Err(Error::Unreadable { .. } | Error::Format { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((matrix, sources))
}
