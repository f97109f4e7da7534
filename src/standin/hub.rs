//! The Hub: names to files, errors, redirects. Weights it only points to.

use super::habits::{HubRange, Location};
use super::log::Request;
use super::repository::{File, Gating, Repository, opaque};
use super::wire::{self, Answer};
use super::{Host, Shared, api, cdn, quota};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;

/// All but the characters that never need encoding (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The headers that pages of other sites may read.
const EXPOSED: &str = "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,\
    Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash";

/// What the official JavaScript client asks with, to be told of a file and not sent to it.
const FILE_INFO: &str = "application/vnd.xet-fileinfo+json";

/// The length of the redirect that a cache once applied ranges to.
const CACHED_REDIRECT: u64 = 177;

pub(super) fn answer(shared: &Shared, request: &Request) -> Answer {
    if shared.habits.plain {
        return plain(shared, request);
    }
    let number = shared.answers.fetch_add(1, Relaxed);
    let token = bearer(request);
    let standing = shared.windows.count(request, token, &shared.habits);
    let answer = match standing.exceeded {
        true => quota::too_many(),
        false => route(shared, request),
    };
    // A client that names its request finds the name in the answer.
    let traced = request.header("x-amzn-trace-id").map(str::to_owned);
    let id = traced.unwrap_or_else(|| format!("Root=1-{}", opaque(&number.to_string(), 32)));
    let mut answer = standing
        .tell(answer)
        .header("x-powered-by", "huggingface-moon")
        .header("x-request-id", id)
        .header("vary", "Origin, Accept")
        .header("access-control-expose-headers", EXPOSED);
    if token.is_none() {
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
    if path == "/api/models" {
        return api::list(shared, request);
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return api::answer(shared, request, rest);
    }
    let verb = ["/resolve/", "/raw/"].into_iter().find_map(|verb| {
        let (id, rest) = path.strip_prefix('/')?.split_once(verb)?;
        Some((verb, id, rest))
    });
    let Some((verb, id, rest)) = verb else {
        return error(404, None, "Sorry, we can't find the page you are looking for.");
    };
    if let Some(name) = renamed(shared, id) {
        let query = request.target.strip_prefix(path).unwrap_or_default();
        return redirect(shared, format!("/{name}{verb}{rest}{query}"));
    }
    let (revision, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (revision, name) = (decode(revision), decode(name));
    let repository = match admit(shared, request, id, &revision) {
        Err(refusal) => return refusal,
        Ok(repository) => repository,
    };
    let Some(file) = repository.files.get(&name) else {
        return error(404, Some("EntryNotFound"), "Entry not found")
            .header("x-repo-commit", repository.commit());
    };
    match verb {
        "/raw/" if file.large => Answer::text(200, file.pointer()),
        "/raw/" => wire::file(file.content.clone(), None),
        _ if unchanged(request, file) => Answer::text(304, "")
            .header("etag", format!("\"{}\"", file.etag()))
            .header("x-repo-commit", repository.commit()),
        _ if file.large => large(shared, request, repository, file),
        _ => in_git(shared, request, repository, &name, file),
    }
}

/// Whether the caller has the file already.
fn unchanged(request: &Request, file: &File) -> bool {
    let known = request.header("if-none-match").unwrap_or_default();
    let strong = |etag: &str| etag.trim().trim_start_matches("W/").trim_matches('"') == file.etag();
    known.split(',').any(strong)
}

/// A file kept in git: a relative redirect with a length and body of its own.
fn in_git(
    shared: &Shared,
    request: &Request,
    repository: &Repository,
    name: &str,
    file: &File,
) -> Answer {
    let encoded: Vec<String> = name.split('/').map(encode).collect();
    let original = encode(request.path());
    let etag = file.oid();
    let location = format!(
        "/api/resolve-cache/models/{}/{}/{}?{original}=&etag=%22{etag}%22",
        repository.id,
        repository.commit(),
        encoded.join("/")
    );
    redirect(shared, location)
        .header("x-repo-commit", repository.commit())
        .header("accept-ranges", "bytes")
}

/// Weights: a signed link, with what only this answer tells of the file.
fn large(shared: &Shared, request: &Request, repository: &Repository, file: &File) -> Answer {
    let (size, xet) = (file.content.size(), file.xet_hash());
    let informs = request.header("accept").is_some_and(|accept| accept.contains(FILE_INFO));
    let range = request.range().filter(|_| !informs);
    let bound = match (range, shared.habits.hub_range) {
        (Some(_), HubRange::Refuse) => {
            return Answer::text(416, "<html>416 Requested Range Not Satisfiable</html>")
                .header("content-type", "text/html")
                .header("content-range", format!("bytes */{CACHED_REDIRECT}"));
        }
        (range, HubRange::Bind) => range,
        (_, HubRange::Ignore | HubRange::Refuse) => None,
    };
    let hub = shared.ports.address(Host::Hub);
    let token =
        format!("{hub}/api/models/{}/xet-read-token/{}", repository.id, repository.commit());
    let link = format!(
        "<{token}>; rel=\"xet-auth\", \
         <{hub}/v1/reconstructions/{xet}>; rel=\"xet-reconstruction-info\""
    );
    let answer = match informs {
        true => Answer::text(200, json!({ "hash": xet, "size": size }).to_string())
            .header("content-type", FILE_INFO),
        false => away(302, cdn::sign(shared, repository, file, bound)),
    };
    answer
        .header("x-repo-commit", repository.commit())
        .header("x-linked-size", size.to_string())
        .header("x-linked-etag", format!("\"{}\"", file.sha256()))
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
            let Some(found) = repository.files.get(&decode(name)) else {
                return error(404, Some("EntryNotFound"), "Entry not found");
            };
            let answer = match (unchanged(request, found), gzips(request)) {
                (true, _) => Answer::text(304, ""),
                // The edge compresses on the fly, so that it knows neither length nor ranges.
                (_, true) => wire::compressed(&found.content),
                _ => wire::file(found.content.clone(), request.range()),
            };
            answer
                .header("content-type", "text/plain; charset=utf-8")
                .header("etag", format!("\"{}\"", found.oid()))
                .header("x-repo-commit", commit)
        }
        Some((_, (commit, _))) if commit.len() != 40 => error(400, None, "Invalid commit"),
        _ => error(404, None, "Not found"),
    }
}

/// The repository at a revision, if the request may see its files.
pub(super) fn admit<'s>(
    shared: &'s Shared,
    request: &Request,
    id: &str,
    revision: &str,
) -> Result<&'s Repository, Answer> {
    let repository = find(shared, request, id)?;
    if repository.disabled {
        // Measured without a token; with one, what the official client takes for it.
        return Err(match is_known(shared, request) {
            true => error(403, None, "Access to this resource is disabled."),
            false => error(401, Some("GatedRepo"), "Access to this resource is disabled."),
        });
    }
    if !granted(repository, request) {
        return Err(match is_known(shared, request) {
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
    let found = shared.repositories.iter().find(|repository| repository.id == id);
    let found = found.filter(|r| !r.private || (token.is_some() && token == r.token.as_deref()));
    let bad = token.is_some() && !is_known(shared, request);
    match found {
        // Nor does a bad token open what needs none; on a gated repository it counts for none.
        Some(repository) if !bad || repository.gating != Gating::Open => Ok(repository),
        _ if bad => Err(error(401, None, "Invalid credentials in Authorization header")),
        _ if token.is_some() => Err(error(404, Some("RepoNotFound"), "Repository not found")),
        _ => Err(error(401, None, "Invalid username or password.")),
    }
}

/// Whether the request has a token that the Hub gave to someone.
fn is_known(shared: &Shared, request: &Request) -> bool {
    let token = bearer(request);
    let own = shared.tokens.iter().map(String::as_str);
    let all = own.chain(shared.repositories.iter().filter_map(|r| r.token.as_deref()));
    token.is_some_and(|token| all.into_iter().any(|known| known == token))
}

/// Whether the caller takes gzip.
fn gzips(request: &Request) -> bool {
    let accepted = request.header("accept-encoding").unwrap_or_default();
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        name.trim() == "gzip" && weight.trim() != "q=0"
    })
}

/// Whether the request may see the files of a repository that it knows of.
pub(super) fn granted(repository: &Repository, request: &Request) -> bool {
    let token = bearer(request);
    repository.gating == Gating::Open || (token.is_some() && token == repository.token.as_deref())
}

fn bearer(request: &Request) -> Option<&str> {
    request.header("authorization")?.strip_prefix("Bearer ")
}

/// Where a name leads that is not a repository's own: an old one to the one before it, and another
/// case to the right one.
pub(super) fn renamed<'s>(shared: &'s Shared, id: &str) -> Option<&'s str> {
    if shared.repositories.iter().any(|repository| repository.id == id) {
        return None;
    }
    shared.repositories.iter().find_map(|repository| {
        let old = repository.aliases.iter().position(|alias| alias == id);
        match old {
            Some(0) => Some(repository.id.as_str()),
            Some(later) => Some(repository.aliases[later - 1].as_str()),
            None => repository.id.eq_ignore_ascii_case(id).then_some(repository.id.as_str()),
        }
    })
}

/// A redirect within the Hub.
pub(super) fn redirect(shared: &Shared, path: String) -> Answer {
    let hub = shared.ports.address(Host::Hub);
    let location = match shared.habits.location {
        Location::Path => path,
        Location::Absolute => hub + &path,
        Location::SchemeRelative => hub.trim_start_matches("http:").to_owned() + &path,
    };
    away(shared.habits.redirect, location)
}

fn away(status: u16, location: String) -> Answer {
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
        Some(found) => wire::file(found.content.clone(), request.range()),
        None => Answer::text(404, "404 Not Found"),
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
