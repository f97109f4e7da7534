use super::support::*;
use singularity_survey::error::Result;
use singularity_survey::report::{Report, Transfer};
use singularity_survey::standin::{Action, Builder, Fault, Host, Nth, Repository, StandIn};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Long enough for any run with its tries; a run that takes longer hangs.
const ENDS: Duration = Duration::from_secs(60);

/// How a scan is broken in a series of runs.
struct Series {
    sharded: bool,
    connections: usize,
    /// Bytes of a body that are sent at a time: a break at each multiple.
    chunk: usize,
    /// Every break, or each so many.
    step: usize,
}

impl Series {
    fn repository(&self) -> Repository {
        // Three segments, of a little over the shortest length.
        let (rows, row_bytes, every) = (3_100, 1_024, 50);
        let repository = match self.sharded {
            true => generated_shards("org/m", rows, row_bytes, every),
            false => generated("org/m", rows, row_bytes, every),
        };
        let tokenizer = std::fs::read(fixture("tied").join("tokenizer.json")).unwrap();
        repository.file("tokenizer.json", tokenizer)
    }

    /// One run with these faults: the report without what differs between any two runs.
    fn run(&self, faults: &[Fault]) -> (World, Result<Report>) {
        let builder = StandIn::builder().repository(self.repository()).chunk(self.chunk);
        let world = World::new(faults.iter().cloned().fold(builder, Builder::fault));
        let ended = std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel();
            let world = &world;
            scope.spawn(move || {
                let (report, _) = world.survey_with("org/m", self.connections, |options| {
                    options.policy.idle = Duration::from_millis(150);
                    options.policy.headers = Duration::from_millis(150);
                });
                let _ = send.send(report);
            });
            receive.recv_timeout(ENDS).unwrap_or_else(|_| {
                // Nothing can end a thread that hangs, and a test must not hang with it.
                eprintln!("a scan hangs under {faults:?}");
                std::process::abort()
            })
        });
        let told = ended.map(|report| Report { transfer: Transfer::default(), ..report });
        (world, told)
    }

    /// Every way to break it: at every request and at every chunk of every body.
    fn breaks(&self) -> Vec<Fault> {
        let (world, _) = self.run(&[]);
        let mut breaks = Vec::new();
        for host in [Host::Hub, Host::Cdn] {
            let log = world.hub.log();
            for (number, request) in log.iter().filter(|request| request.host == host).enumerate() {
                let mut actions = vec![
                    Action::Refuse,
                    Action::ResetBeforeHeaders,
                    Action::StallBeforeHeaders,
                    Action::status(503, "not now"),
                ];
                if host == Host::Cdn {
                    actions.push(Action::Expire);
                }
                for after in (0..request.sent).step_by(self.chunk) {
                    actions.push(Action::Break { after });
                    actions.push(Action::Reset { after });
                    actions.push(Action::Stall { after });
                }
                breaks.extend(actions.into_iter().map(|action| Fault {
                    on: host,
                    path_end: String::new(),
                    ranged: false,
                    nth: Nth::Only(number),
                    action,
                }));
            }
        }
        breaks.into_iter().step_by(self.step).collect()
    }

    /// Runs the scan under each set of faults, several at a time; all must find the same.
    fn torture(&self, sets: &[Vec<Fault>]) -> usize {
        let clean = self.run(&[]).1.unwrap();
        assert_eq!(clean.duplicates.largest, Some(62));
        assert!(clean.tokenizer.is_some() && clean.warnings.is_empty());
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(2, |n| 2 * n.get());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(faults) = sets.get(next.fetch_add(1, Relaxed)) {
                        match self.run(faults).1 {
                            Ok(report) => assert_eq!(report, clean, "under {faults:?}"),
                            Err(error) => panic!("{error}: {faults:?}"),
                        }
                    }
                });
            }
        });
        sets.len()
    }
}

/// One break at a time.
fn singles(series: &Series) -> usize {
    let sets: Vec<_> = series.breaks().into_iter().map(|fault| vec![fault]).collect();
    series.torture(&sets)
}

#[test]
fn a_break_anywhere_changes_nothing() {
    let series = Series { sharded: true, connections: 3, chunk: 200 << 10, step: 3 };
    let runs = singles(&series);
    assert!(runs > 40, "{runs}");
}

#[test]
#[ignore = "thousands of runs: cargo test --release --test it torture -- --ignored --nocapture"]
fn a_break_at_every_request_and_every_chunk_changes_nothing() {
    let mut runs = 0;
    for sharded in [false, true] {
        for connections in [1, 3, 8] {
            runs += singles(&Series { sharded, connections, chunk: 16 << 10, step: 1 });
        }
    }
    println!("{runs} runs, each with one break");
    assert!(runs > 3_000, "{runs}");
}

#[test]
#[ignore = "ten thousand runs: cargo test --release --test it torture -- --ignored --nocapture"]
fn two_breaks_anywhere_change_nothing() {
    let series = Series { sharded: true, connections: 3, chunk: 400 << 10, step: 1 };
    let breaks = series.breaks();
    let pairs: Vec<_> = (0..breaks.len())
        .flat_map(|first| (0..first).map(move |second| (first, second)))
        .map(|(first, second)| vec![breaks[first].clone(), breaks[second].clone()])
        .collect();
    let runs = series.torture(&pairs);
    println!("{runs} runs, each with two breaks");
    assert!(runs > 1_000, "{runs}");
}
