//! What the Hub tells of a repository as JSON: its commit and its files. It never redirects to
//! bytes, and it answers on gated repositories too, with what would lead to the bytes struck out.

use super::Shared;
use super::hub::{decode, error, find, granted, redirect, renamed};
use super::log::Request;
use super::repository::{File, Gating, Repository, opaque};
use super::wire::Answer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The length of the text that stands in git for a file kept apart from it.
const POINTER: u64 = 134;

/// Answers on what follows `/api/models/`.
pub(super) fn answer(shared: &Shared, request: &Request, rest: &str) -> Answer {
    // The first of the two, since a folder may be called like the other.
    let verb = ["/revision/", "/tree/"]
        .into_iter()
        .filter_map(|verb| rest.find(verb).map(|at| (at, verb)))
        .min();
    let id = verb.map_or(rest, |(at, _)| &rest[..at]);
    if let Some(canonical) = renamed(shared, id) {
        let after = request.target.split_once(id).map_or("", |(_, after)| after);
        return redirect(307, format!("/api/models/{canonical}{after}"));
    }
    let repository = match find(shared, request, id) {
        Err(refusal) => return refusal,
        Ok(repository) => repository,
    };
    let after = verb.map_or("main", |(at, verb)| &rest[at + verb.len()..]);
    let after = decode(after);
    match verb {
        Some((_, "/tree/")) => tree(repository, request, &after),
        _ if repository.knows(&after) => info(repository, request),
        _ => unknown(&after),
    }
}

fn info(repository: &Repository, request: &Request) -> Answer {
    let blobs = asks(request, "blobs=true");
    let sibling = |(name, file): (&String, &File)| {
        let mut entry = json!({ "rfilename": name });
        if blobs {
            let size = file.content.size();
            entry["size"] = size.into();
            entry["blobId"] = repository.oid(name).into();
            if file.large {
                let sha256 = repository.sha256(name);
                entry["lfs"] = json!({ "size": size, "sha256": sha256, "pointerSize": POINTER });
            }
        }
        entry
    };
    let gated = match repository.gating {
        Gating::Open => json!(false),
        Gating::Auto => json!("auto"),
        Gating::Manual => json!("manual"),
    };
    json_answer(&json!({
        "_id": opaque(&repository.id, 24),
        "id": repository.id,
        "modelId": repository.id,
        "sha": repository.commit(),
        "private": repository.private,
        "gated": gated,
        "disabled": false,
        "siblings": repository.files.iter().map(sibling).collect::<Vec<_>>(),
    }))
}

/// One page, whatever the number of entries. The revision may be encoded or not: clients differ.
fn tree(repository: &Repository, request: &Request, after: &str) -> Answer {
    let first = after.split('/').next().unwrap_or_default();
    let folder_at = |revision: &str| match after.strip_prefix(revision)? {
        "" => Some(String::new()),
        folder => Some(folder.strip_prefix('/')?.trim_end_matches('/').to_owned()),
    };
    let named = repository.revisions.iter().find_map(|revision| folder_at(revision));
    let Some(folder) = named.or_else(|| folder_at(first).filter(|_| repository.knows(first)))
    else {
        return unknown(after);
    };
    let prefix = if folder.is_empty() { folder } else { folder + "/" };
    let recursive = asks(request, "recursive=true");
    let (mut folders, mut files) = (BTreeSet::new(), Vec::new());
    for (name, file) in &repository.files {
        let Some(below) = name.strip_prefix(&prefix) else { continue };
        let parents = below.match_indices('/').map(|(at, _)| &name[..prefix.len() + at]);
        folders.extend(parents.take(if recursive { usize::MAX } else { 1 }));
        if recursive || !below.contains('/') {
            files.push(entry(repository, request, name, file));
        }
    }
    if folders.is_empty() && files.is_empty() && !prefix.is_empty() {
        let message = format!("{prefix} does not exist on \"{first}\"");
        return error(404, Some("EntryNotFound"), &message);
    }
    let folder = |path: &str| json!({ "type": "directory", "path": path, "size": 0, "oid": repository.oid(path) });
    json_answer(&folders.into_iter().map(folder).chain(files).collect())
}

fn entry(repository: &Repository, request: &Request, name: &str, file: &File) -> Value {
    let (size, oid) = (file.content.size(), repository.oid(name));
    let mut entry = json!({ "type": "file", "path": name, "size": size, "oid": oid });
    if file.large {
        // The hash that model info calls `sha256` is called `oid` here.
        let oid = repository.sha256(name);
        entry["lfs"] = json!({ "oid": oid, "size": size, "pointerSize": POINTER });
        entry["xetHash"] = match granted(repository, request) {
            true => repository.xet_hash(name).into(),
            false => "*".repeat(64).into(),
        };
    }
    entry
}

/// Whether the query has this pair.
fn asks(request: &Request, pair: &str) -> bool {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|found| found == pair)
}

fn unknown(revision: &str) -> Answer {
    error(404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}"))
}

fn json_answer(value: &Value) -> Answer {
    Answer::text(200, value.to_string()).header("content-type", "application/json; charset=utf-8")
}
