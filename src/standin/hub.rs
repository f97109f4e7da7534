//! The Hub: names to files, errors, redirects. Weights it only points to.

use super::log::Request;
use super::repository::{File, Gating, Repository, opaque};
use super::wire::{Answer, file};
use super::{Host, Shared, api, cdn};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;

/// All but the characters that never need encoding (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Requests that an anonymous client may send in a window of five minutes.
const QUOTA: u64 = 3000;

pub(super) fn answer(shared: &Shared, request: &Request) -> Answer {
    if shared.plain {
        return plain(shared, request);
    }
    let number = shared.answers.fetch_add(1, Relaxed);
    let bucket = if request.path().starts_with("/api/") { "api" } else { "resolvers" };
    let rest = QUOTA.saturating_sub(number + 1);
    let mut answer = route(shared, request)
        .header("x-powered-by", "huggingface-moon")
        .header("x-request-id", format!("Root=1-{}", opaque(&number.to_string(), 32)))
        .header("ratelimit", format!("\"{bucket}\";r={rest};t=172"))
        .header("ratelimit-policy", format!("\"fixed window\";\"{bucket}\";q={QUOTA};w=300"))
        .header("vary", "Origin, Accept");
    if request.header("authorization").is_none() {
        answer = answer.header(
            "x-hf-warning",
            "unauthenticated; Warning: You are sending unauthenticated requests to the HF Hub.",
        );
    }
    answer
}

fn route(shared: &Shared, request: &Request) -> Answer {
    let path = request.path();
    if let Some(rest) = path.strip_prefix("/api/resolve-cache/models/") {
        return resolve_cache(shared, request, rest);
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return api::answer(shared, request, rest);
    }
    let Some((id, rest)) = path.strip_prefix('/').and_then(|path| path.split_once("/resolve/"))
    else {
        return error(404, None, "Sorry, we can't find the page you are looking for.");
    };
    if let Some(canonical) = renamed(shared, id) {
        let query = request.target.strip_prefix(path).unwrap_or_default();
        let location = format!("/{canonical}/resolve/{rest}{query}");
        return redirect(307, location);
    }
    let (revision, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (revision, name) = (decode(revision), decode(name));
    match admit(shared, request, id, &revision) {
        Err(refusal) => refusal,
        Ok(repository) => match repository.files.get(&name) {
            None => error(404, Some("EntryNotFound"), "Entry not found")
                .header("x-repo-commit", repository.commit()),
            Some(file) if file.large => large(shared, request, repository, &name, file),
            Some(_) => in_git(request, repository, &name),
        },
    }
}

/// A file kept in git: a relative redirect with a length and body of its own.
fn in_git(request: &Request, repository: &Repository, name: &str) -> Answer {
    let encoded: Vec<String> = name.split('/').map(encode).collect();
    let original = encode(request.path());
    let etag = repository.oid(name);
    let location = format!(
        "/api/resolve-cache/models/{}/{}/{}?{original}=&etag=%22{etag}%22",
        repository.id,
        repository.commit(),
        encoded.join("/")
    );
    redirect(307, location)
        .header("x-repo-commit", repository.commit())
        .header("accept-ranges", "bytes")
}

/// Weights: a signed link, with what only this answer tells of the file.
fn large(
    shared: &Shared,
    request: &Request,
    repository: &Repository,
    name: &str,
    file: &File,
) -> Answer {
    let location = cdn::sign(shared, repository, name, &file.content, request.range());
    let xet = repository.xet_hash(name);
    let hub = shared.ports.address(Host::Hub);
    let token =
        format!("{hub}/api/models/{}/xet-read-token/{}", repository.id, repository.commit());
    let link = format!(
        "<{token}>; rel=\"xet-auth\", \
         <{hub}/v1/reconstructions/{xet}>; rel=\"xet-reconstruction-info\""
    );
    redirect(302, location)
        .header("x-repo-commit", repository.commit())
        .header("x-linked-size", file.content.size().to_string())
        .header("x-linked-etag", format!("\"{}\"", repository.sha256(name)))
        .header("x-xet-hash", xet)
        .header("link", link)
        .header("accept-ranges", "bytes")
        .header("cache-control", "no-cache")
}

fn resolve_cache(shared: &Shared, request: &Request, rest: &str) -> Answer {
    let found = shared.repositories.iter().find_map(|repository| {
        let rest = rest.strip_prefix(&repository.id)?.strip_prefix('/')?;
        Some((repository, rest.split_once('/')?))
    });
    match found {
        Some((repository, (commit, name))) if commit == repository.commit() => {
            if let Err(refusal) = admit(shared, request, &repository.id, commit) {
                return refusal;
            }
            let name = decode(name);
            match repository.files.get(&name) {
                Some(found) => file(found.content.clone(), request.range())
                    .header("content-type", "text/plain; charset=utf-8")
                    .header("etag", format!("\"{}\"", repository.oid(&name)))
                    .header("x-repo-commit", commit),
                None => error(404, Some("EntryNotFound"), "Entry not found"),
            }
        }
        Some((_, (commit, _))) if commit.len() != 40 => error(400, None, "Invalid commit"),
        _ => error(404, None, "Not found"),
    }
}

/// The repository at a revision, if the request may see its files.
fn admit<'s>(
    shared: &'s Shared,
    request: &Request,
    id: &str,
    revision: &str,
) -> Result<&'s Repository, Answer> {
    let repository = find(shared, request, id)?;
    let token = bearer(request);
    if !granted(repository, request) {
        let known =
            shared.repositories.iter().any(|r| r.token.is_some() && r.token.as_deref() == token);
        return Err(match known {
            true => error(
                403,
                Some("GatedRepo"),
                &format!(
                    "Access to model {id} is restricted and you are not in the authorized list. \
                     Visit the model's page to ask for access."
                ),
            ),
            false => error(
                401,
                Some("GatedRepo"),
                &format!(
                    "Access to model {id} is restricted. You must have access to it and be \
                     authenticated to access it. Please log in."
                ),
            ),
        });
    }
    if !repository.knows(revision) {
        return Err(error(404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}")));
    }
    Ok(repository)
}

/// The repository, if the request may know of it: a private one looks like a missing one.
pub(super) fn find<'s>(
    shared: &'s Shared,
    request: &Request,
    id: &str,
) -> Result<&'s Repository, Answer> {
    let token = bearer(request);
    let known =
        shared.repositories.iter().any(|r| r.token.is_some() && r.token.as_deref() == token);
    let found = shared.repositories.iter().find(|repository| repository.id == id);
    match found.filter(|r| !r.private || (token.is_some() && token == r.token.as_deref())) {
        Some(repository) => Ok(repository),
        None if known => Err(error(404, Some("RepoNotFound"), "Repository not found")),
        None if token.is_some() => {
            Err(error(401, None, "Invalid credentials in Authorization header"))
        }
        None => Err(error(401, None, "Invalid username or password.")),
    }
}

/// Whether the request may see the files of a repository that it knows of.
pub(super) fn granted(repository: &Repository, request: &Request) -> bool {
    let token = bearer(request);
    repository.gating == Gating::Open || (token.is_some() && token == repository.token.as_deref())
}

fn bearer(request: &Request) -> Option<&str> {
    request.header("authorization")?.strip_prefix("Bearer ")
}

/// The canonical id, where another name was used: an old one, or another case.
pub(super) fn renamed(shared: &Shared, id: &str) -> Option<String> {
    let exact = |repository: &&Repository| repository.id == id;
    if shared.repositories.iter().any(|repository| exact(&repository)) {
        return None;
    }
    let other = shared.repositories.iter().find(|repository| {
        repository.id.eq_ignore_ascii_case(id) || repository.aliases.iter().any(|a| a == id)
    });
    other.map(|repository| repository.id.clone())
}

pub(super) fn redirect(status: u16, location: String) -> Answer {
    Answer::text(status, format!("Temporary Redirect. Redirecting to {location}"))
        .header("content-type", "text/plain; charset=utf-8")
        .header("location", location)
}

pub(super) fn error(status: u16, code: Option<&str>, message: &str) -> Answer {
    let answer = Answer::text(status, json!({ "error": message }).to_string())
        .header("content-type", "application/json; charset=utf-8")
        .header("x-error-message", message);
    match code {
        Some(code) => answer.header("x-error-code", code),
        None => answer,
    }
}

/// A plain static web server.
fn plain(shared: &Shared, request: &Request) -> Answer {
    let found = shared.repositories.iter().find_map(|repository| {
        let rest = request.path().strip_prefix('/')?.strip_prefix(&repository.id)?;
        repository.files.get(&decode(rest.strip_prefix("/resolve/main/")?))
    });
    match found {
        Some(found) => file(found.content.clone(), request.range()),
        None => Answer::text(404, "404 Not Found"),
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
