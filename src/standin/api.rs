//! What the Hub tells of a repository as JSON: its commit, its files, its names. It never redirects
//! to bytes, and it answers on gated repositories too, with what would lead to the bytes struck out.

use super::Shared;
use super::hub::{admit, decode, error, find, granted, redirect, renamed};
use super::log::{Host, Request};
use super::repository::{File, Gating, Repository, opaque};
use super::wire::Answer;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The length of the text that stands in git for a file kept apart from it.
const POINTER: u64 = 134;

/// Entries on a page of a listing, and where each is told at length.
const PAGE: usize = 1000;
const PAGE_EXPANDED: usize = 50;

/// Seconds for which a token for native Xet would be good.
const TOKEN_LIFE: u64 = 3600;

/// When all that is served was made.
const DATE: &str = "2026-01-01T00:00:00.000Z";

/// Answers on what follows `/api/models/`.
pub(super) fn answer(shared: &Shared, request: &Request, rest: &str) -> Answer {
    const VERBS: [&str; 6] =
        ["/revision/", "/tree/", "/paths-info/", "/xet-read-token/", "/refs", "/auth-check"];
    // The first of them, since a folder may be called like another.
    let verb = VERBS.into_iter().filter_map(|verb| rest.find(verb).map(|at| (at, verb))).min();
    let id = verb.map_or(rest, |(at, _)| &rest[..at]);
    if let Some(name) = renamed(shared, id) {
        let after = request.target.split_once(id).map_or("", |(_, after)| after);
        return redirect(shared, format!("/api/models/{name}{after}"));
    }
    let repository = match find(shared, request, id) {
        Err(refusal) => return refusal,
        Ok(repository) => repository,
    };
    let after = verb.map_or("", |(at, verb)| &rest[at + verb.len()..]);
    let after = decode(after);
    match verb.map(|(_, verb)| verb) {
        None => info(repository, request),
        Some("/revision/") if repository.knows(&after) => info(repository, request),
        // Of a closed repository only this much is told.
        Some(_) if repository.disabled => {
            admit(shared, request, id, &after).map_or_else(|refusal| refusal, |_| unknown(&after))
        }
        Some("/tree/") => tree(shared, repository, request, &after),
        Some("/paths-info/") if repository.knows(&after) => paths_info(repository, request),
        Some("/refs") => refs(repository, request),
        Some("/auth-check") => match admit(shared, request, id, "main") {
            Err(refusal) => refusal,
            Ok(_) => Answer::text(200, "OK"),
        },
        Some("/xet-read-token/") => match admit(shared, request, id, &after) {
            Err(refusal) => refusal,
            Ok(_) => read_token(shared, repository),
        },
        Some(_) => unknown(&after),
    }
}

/// The repositories that the caller may know of, a page at a time.
pub(super) fn list(shared: &Shared, request: &Request) -> Answer {
    let asked = |name: &str| query(request, name).map(|text| text.to_lowercase());
    let (search, author) = (asked("search"), asked("author"));
    let found = shared.repositories.iter().filter(|repository| {
        let id = repository.id.to_lowercase();
        let by = |author: &String| id.split_once('/').is_some_and(|(found, _)| found == author);
        find(shared, request, &repository.id).is_ok()
            && search.as_ref().is_none_or(|search| id.contains(search))
            && author.as_ref().is_none_or(by)
    });
    let entries = found.map(|repository| described(repository, request, false)).collect();
    let limit = asked("limit").and_then(|limit| limit.parse().ok());
    let size = limit.or(shared.habits.page).unwrap_or(PAGE);
    page(shared, request, entries, size, limit.is_some())
}

fn info(repository: &Repository, request: &Request) -> Answer {
    let mut told = described(repository, request, true);
    let fields: Vec<String> = queries(request, "expand");
    if !fields.is_empty() {
        let kept = |name: &String| ["_id", "id"].contains(&name.as_str()) || fields.contains(name);
        if let Some(map) = told.as_object_mut() {
            map.retain(|name, _| kept(name));
        }
    }
    json_answer(&told)
}

fn described(repository: &Repository, request: &Request, whole: bool) -> Value {
    let blobs = query(request, "blobs").as_deref() == Some("true");
    let sibling = |(name, file): (&String, &File)| {
        let mut entry = json!({ "rfilename": name });
        if blobs {
            let size = file.content.size();
            entry["size"] = size.into();
            entry["blobId"] = file.oid().into();
            if file.large {
                let sha256 = file.sha256();
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
    let mut told = json!({
        "_id": opaque(&repository.id, 24),
        "id": repository.id,
        "modelId": repository.id,
        "author": repository.id.split_once('/').map(|(author, _)| author),
        "private": repository.private,
        "gated": gated,
        "disabled": repository.disabled,
        "downloads": 0,
        "likes": 0,
        "tags": ["safetensors"],
        "lastModified": DATE,
        "createdAt": DATE,
    });
    if whole {
        told["sha"] = repository.commit().into();
        told["siblings"] = repository.files.iter().map(sibling).collect();
        told["usedStorage"] = repository.size().into();
        told["xetEnabled"] = true.into();
    }
    told
}

/// The revision may be encoded or not, and so may the folder: clients differ.
fn tree(shared: &Shared, repository: &Repository, request: &Request, after: &str) -> Answer {
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
    let recursive = query(request, "recursive").as_deref() == Some("true");
    let expanded = query(request, "expand").as_deref() == Some("true");
    let (mut folders, mut files) = (BTreeSet::new(), Vec::new());
    for (name, file) in &repository.files {
        let Some(below) = name.strip_prefix(&prefix) else { continue };
        let parents = below.match_indices('/').map(|(at, _)| &name[..prefix.len() + at]);
        folders.extend(parents.take(if recursive { usize::MAX } else { 1 }));
        if recursive || !below.contains('/') {
            files.push(entry(repository, request, name, file, expanded));
        }
    }
    if folders.is_empty() && files.is_empty() && !prefix.is_empty() {
        let message = format!("{prefix} does not exist on \"{first}\"");
        return error(404, Some("EntryNotFound"), &message);
    }
    let folders = folders.into_iter().map(directory);
    let size = shared.habits.page.unwrap_or(if expanded { PAGE_EXPANDED } else { PAGE });
    page(shared, request, folders.chain(files).collect(), size, false)
}

fn directory(path: &str) -> Value {
    json!({ "type": "directory", "path": path, "size": 0, "oid": opaque(path, 40) })
}

fn entry(
    repository: &Repository,
    request: &Request,
    name: &str,
    file: &File,
    expanded: bool,
) -> Value {
    let (size, oid) = (file.content.size(), file.oid());
    let mut entry = json!({ "type": "file", "path": name, "size": size, "oid": oid });
    if file.large {
        // The hash that model info calls `sha256` is called `oid` here.
        entry["lfs"] = json!({ "oid": file.sha256(), "size": size, "pointerSize": POINTER });
        entry["xetHash"] = match granted(repository, request) {
            true => file.xet_hash().into(),
            false => "*".repeat(64).into(),
        };
    }
    if expanded {
        let commit = repository.commit();
        entry["lastCommit"] = json!({ "id": commit, "title": "Upload", "date": DATE });
        entry["securityFileStatus"] = json!({ "status": "safe" });
    }
    entry
}

/// The files and folders that were named, as a form or as JSON; those that are not there are left
/// out without a word.
fn paths_info(repository: &Repository, request: &Request) -> Answer {
    let body = String::from_utf8_lossy(&request.body);
    let (paths, expanded) = match serde_json::from_str::<Value>(&body) {
        Ok(body) => {
            let paths = body["paths"].as_array().into_iter().flatten();
            let paths = paths.filter_map(Value::as_str).map(str::to_owned).collect();
            (paths, body["expand"] == true)
        }
        Err(_) => {
            let expanded = pairs(&body, "expand").iter().any(|e| e.eq_ignore_ascii_case("true"));
            (pairs(&body, "paths"), expanded)
        }
    };
    let told = paths.iter().filter_map(|path: &String| {
        let path = path.trim_end_matches('/');
        let below = |name: &String| name.starts_with(&format!("{path}/"));
        match repository.files.get(path) {
            Some(file) => Some(entry(repository, request, path, file, expanded)),
            None => repository.files.keys().any(below).then(|| directory(path)),
        }
    });
    json_answer(&told.collect())
}

/// Branches, tags and, where asked for, pull requests: all at the one commit.
fn refs(repository: &Repository, request: &Request) -> Answer {
    let target = repository.commit();
    let (mut branches, mut tags, mut pulls) = (Vec::new(), Vec::new(), Vec::new());
    for name in &repository.revisions {
        let told = |full: String| json!({ "name": name, "ref": full, "targetCommit": target });
        match () {
            () if name.starts_with("refs/") => pulls.push(told(name.clone())),
            () if name.starts_with('v') => tags.push(told(format!("refs/tags/{name}"))),
            () => branches.push(told(format!("refs/heads/{name}"))),
        }
    }
    let mut told = json!({ "branches": branches, "tags": tags, "converts": [] });
    if query(request, "include_prs").is_some_and(|asked| asked != "0" && asked != "false") {
        told["pullRequests"] = pulls.into();
    }
    json_answer(&told)
}

/// A token for native Xet, which nothing here speaks: the address that it names refuses.
fn read_token(shared: &Shared, repository: &Repository) -> Answer {
    let exp = super::cdn::seconds() + TOKEN_LIFE;
    json_answer(&json!({
        "accessToken": opaque(&format!("token {} {exp}", repository.id), 64),
        "exp": exp,
        "casUrl": shared.ports.address(Host::Elsewhere),
    }))
}

/// One page of a listing; more follow by the `Link` header, whose address is to be used as it is.
fn page(
    shared: &Shared,
    request: &Request,
    mut entries: Vec<Value>,
    size: usize,
    last: bool,
) -> Answer {
    let size = size.max(1);
    let from = query(request, "cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let mut rest = entries.split_off(entries.len().min(from));
    let more = rest.len() > size && !last;
    rest.truncate(size);
    let answer = json_answer(&rest.into());
    if !more {
        return answer;
    }
    let (path, asked) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let kept = asked.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let kept: String = kept.map(|pair| format!("{pair}&")).collect();
    let hub = shared.ports.address(Host::Hub);
    let next = format!("<{hub}{path}?{kept}cursor={}>; rel=\"next\"", from + size);
    answer.header("link", next)
}

/// The first value of a name in the query.
fn query(request: &Request, name: &str) -> Option<String> {
    queries(request, name).into_iter().next()
}

fn queries(request: &Request, name: &str) -> Vec<String> {
    pairs(request.target.split_once('?').map_or("", |(_, query)| query), name)
}

/// The values of a name in a query or a form.
fn pairs(text: &str, name: &str) -> Vec<String> {
    let value = |pair: &str| {
        let (found, value) = pair.split_once('=')?;
        let value = value.replace('+', " ");
        (found == name).then(|| percent_decode_str(&value).decode_utf8_lossy().into_owned())
    };
    text.split('&').filter_map(value).collect()
}

fn unknown(revision: &str) -> Answer {
    error(404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}"))
}

fn json_answer(value: &Value) -> Answer {
    Answer::text(200, value.to_string()).header("content-type", "application/json; charset=utf-8")
}
