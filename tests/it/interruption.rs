use super::support::*;
use singularity_survey::standin::{Action, Fault, Host, Nth, StandIn};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a run may take to stop, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(1);

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
}

/// The exit code of a run that has to end soon.
fn ends(child: &mut Child, within: Duration) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if began.elapsed() > within {
            child.kill().unwrap();
            panic!("the run did not end within {within:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().count() == 0
}

/// A checkpoint of rows that are all zero, of no size on the disk.
fn sparse(folder: &Path, rows: u64, row_bytes: u64) -> String {
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"U8","shape":[{rows},{row_bytes}],"data_offsets":[0,{}]}}}}"#,
        rows * row_bytes
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    let path = folder.join("model.safetensors");
    fs::write(&path, &bytes).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(bytes.len() as u64 + rows * row_bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_signal_ends_a_run_that_waits_and_leaves_nothing_behind() {
    let stall = Fault::cdn(Nth::From(1), Action::Stall { after: 100_000 });
    let model = generated("org/m", 4_000, 1024, 50);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let world = World::new(StandIn::builder().repository(model.clone()).fault(stall.clone()));
        let folder = tempfile::tempdir().unwrap();
        let output = format!("json:{}", folder.path().join("x.json").display());
        let lines = format!("jsonl:{}", folder.path().join("x.jsonl").display());
        let mut command = world.command(&["org/m", "-o", &output, "-o", &lines]);
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        while world.hub.log().iter().filter(|r| r.host == Host::Cdn).count() < 5 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        signal(&child, name);
        assert_eq!(ends(&mut child, SOON), Some(code), "{name}");
        assert!(is_empty(folder.path()), "{name}");
        let said = said(&mut child);
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("interrupted: ") && last.ends_with(" had been read"), "{said}");
        assert!(last.contains("of the matrix's 4.10 MB"), "{said}");
    }
}

/// At any moment: while headers are read, rows hashed, groups made, the report written.
#[test]
fn a_signal_at_any_time_ends_a_run_soon() {
    let folder = tempfile::tempdir().unwrap();
    let model = sparse(folder.path(), 1 << 20, 128);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("x.json");
    let output = format!("json:{}", target.display());
    let mut interrupted = 0;
    for turn in 0..24 {
        let _ = fs::remove_file(&target);
        let mut command = bare(&[&model, "--format", "csv", "-o", &output, "-q"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 40 * turn));
        if child.try_wait().unwrap().is_none() {
            signal(&child, "INT");
        }
        match ends(&mut child, SOON) {
            // It had just come to its end.
            Some(0) => assert!(target.exists()),
            code => {
                assert_eq!(code, Some(130));
                interrupted += 1;
                let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
                let whole = target.exists() && left.len() == 1;
                assert!(whole || left.is_empty(), "{left:?}");
            }
        }
    }
    assert!(interrupted > 0);
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_a_run_from_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let model = sparse(folder.path(), 100_000, 16);
    for format in ["json", "jsonl", "ids", "csv"] {
        let mut command = bare(&[&model, "--format", format, "-q"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        assert!(child.try_wait().unwrap().is_none(), "{format}: the pipe took it all");
        signal(&child, "INT");
        assert_eq!(ends(&mut child, SOON), Some(130), "{format}");
    }
    // Nor does a pipe that no one has opened yet.
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = bare(&[&model, "-o", &format!("csv:{}", pipe.display())]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    assert_eq!(ends(&mut child, SOON), Some(130));
}

#[test]
fn a_reader_that_goes_away_takes_nothing_from_the_files() {
    let model = fixture("tied");
    let model = model.to_str().unwrap();
    for format in ["jsonl", "text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let names = ["x.json", "x.jsonl", "x.csv"].map(|name| folder.path().join(name));
        let outputs = names.clone().map(|path| {
            let kind = path.extension().unwrap().to_str().unwrap();
            format!("{kind}:{}", path.display())
        });
        let [a, b, c] = &outputs;
        let mut command = bare(&[model, "--format", format, "-q", "-o", a, "-o", b, "-o", c]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(ends(&mut child, 20 * SOON), Some(0), "{format}");
        for name in &names {
            assert!(fs::metadata(name).unwrap().len() > 100, "{format}: {name:?}");
        }
        assert!(fs::read_to_string(&names[1]).unwrap().contains("\"type\":\"summary\""));
    }
    // A file is no standard output: what could not be written there is told.
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let sparse = sparse(folder.path(), 100_000, 16);
    for kind in ["csv", "jsonl"] {
        let target = format!("{kind}:{}", pipe.display());
        let mut command = bare(&[&sparse, "--format", "ids", "-q", "-o", &target]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(File::open(&pipe).unwrap());
        assert_eq!(ends(&mut child, 20 * SOON), Some(2), "{kind}");
        assert!(said(&mut child).contains("pipe"));
    }
}

#[test]
fn what_must_not_be_written_over_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let model = place("model.safetensors");
    fs::copy(fixture("untied").join("model.safetensors"), &model).unwrap();
    let at = model.to_str().unwrap();
    let world = World::new(StandIn::builder());
    let before = fs::read(&model).unwrap();
    let twice = format!("json:{}", place("x").display());
    for (outputs, says) in [
        (vec![format!("csv:{at}")], "would write over"),
        (vec!["json:-".into()], "--format is for standard output"),
        (vec!["json:/dev/stdout".into()], "--format is for standard output"),
        (vec!["json:/dev/fd/1".into()], "--format is for standard output"),
        (vec![twice.clone(), twice.replace("json", "csv")], "two reports would go to"),
    ] {
        let mut args = vec![at];
        outputs.iter().for_each(|output| args.extend(["-o", output]));
        refused(&world.run(&args), says);
        assert_eq!(fs::read(&model).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    // Permissions and links stay as they are.
    let private = place("private.json");
    fs::write(&private, "").unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("later.json", place("link.json")).unwrap();
    let [a, b] = [&private, &place("link.json")].map(|path| format!("json:{}", path.display()));
    world.scan(&[at, "-o", &a, "-o", &b]);
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::symlink_metadata(place("link.json")).unwrap().is_symlink());
    for path in [private, place("later.json")] {
        assert!(fs::read_to_string(path).unwrap().contains("\"schema\": 1"));
    }
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let world = World::of("tied");
    let folder = tempfile::tempdir().unwrap();
    let output = format!("json:{}", folder.path().join("x.json").display());
    let mut runs: Vec<Child> = (0..6)
        .map(|_| {
            let mut command = world.command(&["org/tied", "-q", "-o", &output]);
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let reads =
        |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).ok()?).ok();
    while runs.iter_mut().any(|run| run.try_wait().unwrap().is_none()) {
        // Whenever it is there it is whole.
        let path = folder.path().join("x.json");
        assert!(!path.exists() || reads(&path).is_some());
    }
    assert!(runs.iter_mut().all(|run| run.wait().unwrap().success()));
    let report = reads(&folder.path().join("x.json")).unwrap();
    agree(&report, &expected("tied"), "bits", "two at once");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
