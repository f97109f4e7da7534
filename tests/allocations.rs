//! Nothing is allocated from a number that a file or a server claims before it agrees with the length
//! that the server states. A binary of its own, because its allocator counts for the whole process.

#![allow(clippy::unwrap_used)]

use peak_alloc::PeakAlloc;
use singularity_survey::checkpoint::{Index, Safetensors, decode};
use singularity_survey::source::{ByteSource as _, MemorySource};
use singularity_survey::standin::{Action, Fault, Nth, Repository, StandIn};
use singularity_survey::{pipeline, resolve, source};

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// The most that was held at a time during a piece of work, beyond what was held before it.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    COUNTED.reset_peak_usage();
    let before = COUNTED.current_usage();
    let result = work();
    (result, COUNTED.peak_usage().saturating_sub(before))
}

/// A header with this JSON, whose length is stated as it is or as something else.
fn file(length: Option<u64>, json: &str, data: usize) -> Vec<u8> {
    let mut bytes = length.unwrap_or(json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

const LITTLE: usize = 64 << 10;

#[test]
fn claims_cost_nothing() {
    let entry = |shape: &str, offsets: &str| {
        format!(r#"{{"lm_head.weight":{{"dtype":"U8","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let huge = "[0,9223372036854775807]";
    for bytes in [
        file(Some(100_000_000), "{}", 0),
        file(Some(u64::MAX), "{}", 0),
        file(Some(99_999_992), &entry("[4]", "[0,4]"), 4),
        file(None, &entry("[9223372036854775807]", huge), 4),
        file(None, &entry("[4294967296,4294967296]", "[0,4]"), 4),
        file(None, &entry("[4]", "[0,18446744073709551615]"), 4),
    ] {
        let source = MemorySource::new("x", bytes);
        let mut decoder = Safetensors::new("x", source.size());
        let (result, held) = peak(|| futures::executor::block_on(decode(&source, &mut decoder)));
        assert!(result.is_err() && held < LITTLE, "{held} bytes for {}", result.unwrap_err());
    }
    let index = r#"{"metadata":{"total_size":18446744073709551615},"weight_map":{"a":"b"}}"#;
    let (index, held) = peak(|| Index::parse("x", index.as_bytes()).unwrap());
    assert!(index.total_bytes() == Some(u64::MAX) && held < LITTLE, "{held} bytes");
    over_the_wire();
}

/// A server that announces much and sends little, of a file and of its ranges.
fn over_the_wire() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let announce = |value: &str| Action::SetHeader {
        name: "content-length".to_owned(),
        value: value.to_owned(),
    };
    let claimed = format!("{:?}", [0, 9_000_000_000u64]).replace(' ', "");
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"U8","shape":[9000000,1000],"data_offsets":{claimed}}}}}"#
    );
    // The Hub states a length that goes with the header; the storage has little of it.
    let linked = (8 + header.len() as u64 + 9_000_000_000).to_string();
    let lie = Action::SetHeader { name: "x-linked-size".to_owned(), value: linked };
    let model = Repository::new("org/m")
        .file("config.json", "{}")
        .file("model.safetensors", file(None, &header, 1000));
    for faults in [
        vec![Fault::hub("/config.json", Nth::Every, announce("9999999"))],
        vec![Fault::hub("/model.safetensors", Nth::Every, lie.clone())],
        vec![
            Fault::hub("/model.safetensors", Nth::Every, lie),
            Fault::cdn(Nth::Every, announce("9000000000")),
        ],
    ] {
        let builder = StandIn::builder().repository(model.clone());
        let builder = faults.into_iter().fold(builder, |builder, fault| builder.fault(fault));
        let hub = runtime.block_on(builder.start()).unwrap();
        let at = resolve::Hub { endpoint: hub.endpoint().parse().unwrap(), ..Default::default() };
        let mut options = source::Options::default();
        options.policy.retries = 0;
        let spec = resolve::ModelSpec::parse("org/m", &at.endpoint).unwrap();
        let survey = pipeline::Survey::new(at, options);
        let mut job = pipeline::Job::new(spec);
        job.tokenizer = pipeline::TokenizerChoice::None;
        let (result, held) = peak(|| {
            runtime.block_on(async { survey.prepare(&job).await?.scan(0).await.map(drop) })
        });
        // What any connection costs, on both of its sides.
        assert!(result.is_err() && held < 2 << 20, "{held} bytes for {:?}", result.unwrap_err());
    }
}
