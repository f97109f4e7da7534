use super::support::*;
use singularity_survey::standin::{Action, Fault, Gating, Host, Nth, Repository, StandIn};
use std::path::Path;

/// A world with a few models that are refused.
fn world() -> World {
    let file = |case: &str| std::fs::read(fixture(case).join("model.safetensors")).unwrap();
    World::new(
        StandIn::builder()
            .repository(repository("tied"))
            .repository(repository("classifier"))
            .repository(repository("three-d"))
            .repository(repository("hqq"))
            .repository(repository("flag-false-no-head"))
            .repository(
                Repository::new("org/gated")
                    .file("config.json", "{}")
                    .gated(Gating::Manual)
                    .token("hf_in"),
            )
            .repository(
                Repository::new("org/hidden").file("config.json", "{}").private().token("hf_in"),
            )
            .repository(
                Repository::new("org/bin").file("config.json", "{}").file("pytorch_model.bin", "x"),
            )
            .repository(Repository::new("org/gguf").file("m.Q4_K_M.gguf", "x"))
            .repository(
                Repository::new("org/adapter").file("adapter_model.safetensors", file("tied")),
            )
            .repository(Repository::new("org/empty").file("README.md", "nothing"))
            .repository(
                Repository::new("org/page")
                    .file("model.safetensors", "<!DOCTYPE html><p>\u{1b}[2J"),
            )
            .repository(Repository::new("org/codec").file("model.safetensors", codec())),
    )
}

/// A checkpoint without any text.
fn codec() -> Vec<u8> {
    let header = r#"{"encoder.conv.weight":{"dtype":"F32","shape":[1,1,2],"data_offsets":[0,8]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend([0; 8]);
    file
}

#[test]
fn models_that_cannot_be_read_are_refused_with_what_to_do() {
    let world = world();
    for (args, says) in [
        (&["org/none"][..], "no such repository, or it is private and no token was sent"),
        (&["org/none", "--token", "hf_in"], "no such repository, or the token may not see it"),
        (&["org/none", "--token", "hf_bad"], "Invalid credentials"),
        (&["org/hidden"], "--token or HF_TOKEN"),
        (&["org/gated"], "ask for access"),
        (&["org/gated", "--token", "hf_bad"], "access"),
        (&["org/tied@none"], "no revision named none"),
        (&["org/tied", "--file", "none.safetensors"], "none.safetensors: no such file"),
        (&["org/tied", "--file", "../x.safetensors"], "no path inside a repository"),
        (&["org/tied", "--tensor", "none"], "no tensor of that name"),
        (&["org/bin"], "pytorch_model.bin"),
        (&["org/gguf"], "GGUF"),
        (&["org/adapter"], "adapter"),
        (&["org/empty"], "no weights that are read"),
        (&["org/page"], "not a safetensors file"),
        (&["org/classifier"], "score.weight"),
        (&["org/codec"], "no unembedding matrix"),
        (&["org/three-d"], "not 2-D"),
        (&["org/hqq"], "HQQ"),
        (&["org/flag-false-no-head"], "--matrix embedding"),
        (&["a/b/c"], "neither a model on the Hub"),
        (&["./none"], "no such file"),
        (&["org/tied@a", "--revision", "b"], "different revisions"),
        (&["org/tied", "--revision", ""], "--revision is empty"),
    ] {
        refused(&world.run(args), says);
        let inspect: Vec<&str> = ["inspect"].into_iter().chain(args.iter().copied()).collect();
        refused(&world.run(&inspect), says);
    }
}

#[test]
fn a_refusal_can_be_asked_what_else_was_considered() {
    let world = World::of("classifier");
    let output = world.run(&["inspect", "org/classifier", "--verbose"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    let line = "considered: score.weight: it is the head of another task";
    assert!(errors.lines().any(|said| said == line), "{errors}");
    assert!(errors.lines().last().unwrap().starts_with("error: "), "{errors}");
}

#[test]
fn a_server_that_ignores_ranges_is_refused_before_the_file_is_sent() {
    let ignores = Fault {
        on: Host::Hub,
        path_end: ".safetensors".into(),
        ranged: true,
        nth: Nth::Every,
        action: Action::IgnoreRange,
    };
    let big = generated("org/big", 20_000, 1024, 7);
    let world = World::new(StandIn::builder().repository(big).plain().fault(ignores));
    refused(&world.run(&["org/big"]), "ignores range requests");
    assert!(world.hub.bytes_sent() < 5_000_000, "{}", world.hub.bytes_sent());
}

#[test]
fn headers_that_lie_are_refused() {
    let huge = |length: u64| length.to_le_bytes().to_vec();
    let shape = |shape: &str, offsets: &str, data: usize| {
        let header = format!(
            r#"{{"lm_head.weight":{{"dtype":"BF16","shape":{shape},"data_offsets":{offsets}}}}}"#
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.resize(file.len() + data, 0);
        file
    };
    let world = World::new(StandIn::builder());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for (bytes, says) in [
        (vec![], "too few"),
        (vec![0; 7], "too few"),
        (huge(0), "no JSON object"),
        (huge(1 << 63), "the format allows"),
        (huge(u64::MAX), "the format allows"),
        (huge(100_000_000), "bytes in all"),
        (shape("[4294967296,4294967296]", "[0,8]", 8), "counted"),
        (shape("[2,2]", "[0,16]", 8), "outside the file"),
        (shape("[2,2]", "[0,8]", 9), "end at byte"),
        (shape("[4,0]", "[0,0]", 0), "no columns"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        refused(&world.run(&[path.to_str().unwrap()]), says);
    }
}

#[test]
fn a_file_that_is_no_checkpoint_is_refused_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(StandIn::builder());
    for (name, says) in [
        ("model", "not a safetensors file"),
        ("model.bin", "not a checkpoint of PyTorch"),
        ("notes.txt", "not a safetensors file"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, "plain text, longer than eight bytes").unwrap();
        refused(&world.run(&[path.to_str().unwrap()]), says);
    }
    refused(&world.run(&[folder.path().to_str().unwrap()]), "no weights that are read");
}

#[test]
fn an_index_that_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::copy(fixture("untied").join("model.safetensors"), place("one.safetensors")).unwrap();
    let world = World::new(StandIn::builder());
    for (shard, tensor, says) in [
        ("../one.safetensors", "lm_head.weight", "no file beside it"),
        ("/etc/passwd", "lm_head.weight", "no file beside it"),
        ("http://x/y", "lm_head.weight", "no file beside it"),
        ("two.safetensors", "lm_head.weight", "does not exist"),
        ("one.safetensors", "model.lm_head.weight", "but it does not"),
    ] {
        let index = serde_json::json!({"weight_map": {tensor: shard}}).to_string();
        std::fs::write(place("model.safetensors.index.json"), index).unwrap();
        refused(&world.run(&[folder.path().to_str().unwrap()]), says);
    }
}

#[test]
fn broken_small_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        fixture("untied").join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let world = World::new(StandIn::builder());
    for config in ["", "<html>", "[]", &"[".repeat(100_000)] {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        refused(&world.run(&[folder.path().to_str().unwrap()]), "config.json");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for args in [
        &[][..],
        &["--format", "yaml", "m"],
        &["m", "-o", "json"],
        &["m", "-o", "yaml:x"],
        &["m", "--connections", "0"],
        &["m", "--tensor", "t", "--matrix", "both"],
        &["m", "-q", "-v"],
    ] {
        let output = bare(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(text(&output.stderr).starts_with("error: "), "{args:?}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_before_anything_is_printed() {
    let world = World::of("tied");
    let model = fixture("tied");
    let model = model.to_str().unwrap();
    refused(&world.run(&[model, "-o", "json:/no/such/folder/x.json"]), "/no/such/folder/x.json");
    if Path::new("/dev/full").exists() {
        for format in ["text", "json", "csv", "markdown", "ids"] {
            refused(&world.run(&[model, "-o", &format!("{format}:/dev/full")]), "/dev/full");
        }
        refused(&world.run(&[model, "-o", "jsonl:/dev/full"]), "/dev/full");
    }
}

#[test]
fn untrusted_text_reaches_a_terminal_escaped() {
    let header = "{\"lm_\\u001b[31mhead\\u202e\":{\"dtype\":\"F32\",\"shape\":[1,1,2],\"data_offsets\":[0,8]}}";
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend([0; 8]);
    let repository = Repository::new("org/odd").file("model.safetensors", file);
    let world = World::new(StandIn::builder().repository(repository));
    refused(
        &world.run(&["org/odd", "--tensor", "lm_\u{1b}[31mhead\u{202e}"]),
        "lm_\\x1b[31mhead\\u202e",
    );
}
