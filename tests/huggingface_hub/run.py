#!/usr/bin/env python3
"""Holds the stand-in Hub against the Hub's own client: `huggingface_hub`, unmodified, does with it
what its users do, and the bytes, the numbers and the errors are the right ones.

    python tests/huggingface_hub/run.py target/release/examples/standin

Needs the packages of `requirements.txt`. Prints one line for each check; exits with 1 at the first
that fails. What must be found on 401 is only recognised behind https, so that the last checks go
through a certificate made with the `openssl` command, and are left out where there is none.
"""

import asyncio
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading

MODELS = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "models"
TOKEN = "hf_stranger"
OWNER = "hf_owner"


def serve(binary, odd):
    """Starts the stand-in; it ends with its standard input."""
    tied, shards = MODELS / "tied", MODELS / "two-shards"
    repositories = [
        f"org/tied={tied},revision=v1.0,revision=refs/pr/1,alias=old/tied,alias=older/tied",
        f"org/two-shards={shards}",
        f"org/odd={odd}",
        f"org/gated={tied},gated=manual,token={OWNER}",
        f"org/hidden={tied},private,token={OWNER}",
        f"org/closed={tied},disabled",
        f"token={TOKEN}",
        "page=3",
    ]
    server = subprocess.Popen(
        [binary, *repositories], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return server, json.loads(server.stdout.readline())["endpoint"]


def raises(error, call):
    """Whether a call raises exactly this error."""
    try:
        call()
    except error as raised:
        assert type(raised) is error, f"{type(raised).__name__} in place of {error.__name__}"
        return
    raise AssertionError(f"{error.__name__} was not raised")


def check(name, test):
    test()
    print(f"ok  {name}", flush=True)


def over_http(endpoint, odd):
    import huggingface_hub as hub
    from huggingface_hub import errors

    api = hub.HfApi(endpoint=endpoint)
    tied = {path.name: path.read_bytes() for path in (MODELS / "tied").iterdir()}

    def files():
        for name, content in tied.items():
            for revision in [None, "v1.0", "refs/pr/1", api.model_info("org/tied").sha]:
                path = hub.hf_hub_download("org/tied", name, revision=revision)
                assert pathlib.Path(path).read_bytes() == content, name

    def odd_names():
        for path in odd.rglob("*"):
            if path.is_file():
                name = path.relative_to(odd).as_posix()
                got = hub.hf_hub_download("org/odd", name)
                assert pathlib.Path(got).read_bytes() == path.read_bytes(), name

    def snapshot():
        folder = pathlib.Path(hub.snapshot_download("org/two-shards"))
        for path in (MODELS / "two-shards").iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes(), path.name

    def again():
        path = hub.hf_hub_download("org/tied", "config.json")
        assert path == hub.hf_hub_download("org/tied", "config.json", local_files_only=True)

    def local_folder():
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(2):
                path = hub.hf_hub_download("org/tied", "config.json", local_dir=folder)
                assert pathlib.Path(path).read_bytes() == tied["config.json"]

    def headers():
        for name in ["org/tied", "org/two-shards"]:
            found = hub.get_safetensors_metadata(name)
            tensors = {t for file in found.files_metadata.values() for t in file.tensors}
            assert "model.embed_tokens.weight" in tensors, tensors
            assert found.sharded == (name == "org/two-shards")

    def ranges():
        files = hub.HfFileSystem(endpoint=endpoint)
        listed = {entry["name"]: entry["size"] for entry in files.ls("org/tied", detail=True)}
        assert listed == {f"org/tied/{name}": len(text) for name, text in tied.items()}, listed
        whole = tied["model.safetensors"]
        with files.open("org/tied/model.safetensors", block_size=1000) as file:
            for start, length in [(0, 8), (len(whole) - 5, 5), (1234, 3000), (8, 1)]:
                file.seek(start)
                assert file.read(length) == whole[start : start + length], start
        got = files.cat_file("org/tied/model.safetensors", start=100, end=200)
        assert got == whole[100:200]
        assert len(files.glob("org/odd/**/*.json")) == 3, "a glob finds nothing"

    def listings():
        info = api.model_info("org/tied", files_metadata=True)
        assert {s.rfilename: s.size for s in info.siblings} == {n: len(t) for n, t in tied.items()}
        tree = [entry.path for entry in api.list_repo_tree("org/tied", recursive=True)]
        assert sorted(tree) == sorted(tied), tree
        assert len(tree) > 3, "more than a page was wanted"
        told = api.get_paths_info("org/tied", ["config.json", "none"])
        assert [entry.path for entry in told] == ["config.json"]
        refs = api.list_repo_refs("org/tied", include_pull_requests=True)
        assert [ref.name for ref in refs.branches] == ["main"]
        assert [ref.name for ref in refs.tags] == ["v1.0"]
        assert [ref.name for ref in refs.pull_requests] == ["refs/pr/1"]
        ids = {model.id for model in api.list_models(search="t")}
        assert ids >= {"org/tied", "org/gated"} and "org/hidden" not in ids, ids
        assert api.model_info("org/gated").gated == "manual"
        assert api.file_exists("org/tied", "config.json")
        assert not api.file_exists("org/tied", "none")
        assert api.repo_exists("org/tied") and api.revision_exists("org/tied", "v1.0")
        assert not api.revision_exists("org/tied", "none")

    def metadata():
        url = hub.hf_hub_url("org/tied", "model.safetensors", endpoint=endpoint)
        found = hub.get_hf_file_metadata(url)
        assert found.size == len(tied["model.safetensors"]) and len(found.etag) == 64
        url = hub.hf_hub_url("org/tied", "config.json", endpoint=endpoint)
        found = hub.get_hf_file_metadata(url)
        assert found.size == len(tied["config.json"]) and len(found.etag) == 40
        assert found.commit_hash == api.model_info("org/tied").sha

    def renamed():
        for name in ["old/tied", "older/tied", "ORG/Tied"]:
            assert api.model_info(name).id == "org/tied"
            path = hub.hf_hub_download(name, "config.json", force_download=True)
            assert pathlib.Path(path).read_bytes() == tied["config.json"], name

    def get(name, file="config.json", token=False, **more):
        return lambda: hub.hf_hub_download(name, file, token=token, **more)

    def refusals():
        raises(errors.GatedRepoError, get("org/gated"))
        raises(errors.GatedRepoError, get("org/gated", token="garbage"))
        raises(errors.GatedRepoError, get("org/gated", token=TOKEN))
        raises(errors.RepositoryNotFoundError, get("org/hidden", token=TOKEN))
        raises(errors.RepositoryNotFoundError, get("org/none", token=TOKEN))
        raises(errors.RevisionNotFoundError, get("org/tied", revision="none"))
        raises(errors.RemoteEntryNotFoundError, get("org/tied", "none"))
        raises(errors.GatedRepoError, get("org/closed"))
        closed = hub.hf_hub_url("org/closed", "config.json", endpoint=endpoint)
        raises(errors.DisabledRepoError, lambda: hub.get_hf_file_metadata(closed, token=TOKEN))
        raises(errors.HfHubHTTPError, lambda: api.model_info("org/tied", token="hf_bad"))
        api.auth_check("org/tied")
        raises(errors.GatedRepoError, lambda: api.auth_check("org/gated", token=TOKEN))

    def opened():
        for name in ["org/gated", "org/hidden"]:
            path = get(name, "model.safetensors", token=OWNER)()
            assert pathlib.Path(path).read_bytes() == tied["model.safetensors"]

    check("files at a branch, a tag, a pull request and a commit", files)
    check("file names that need encoding", odd_names)
    check("a snapshot of two shards", snapshot)
    check("what is in the cache stays as it is", again)
    check("a download to a folder, twice", local_folder)
    check("headers of one file and of two shards", headers)
    check("ranges through the file system", ranges)
    check("model info, pages of a tree, paths, names and lists", listings)
    check("sizes, ETags and commits", metadata)
    check("names that changed once and twice, and another case", renamed)
    check("gated, hidden, closed and missing: the client's own errors", refusals)
    check("what a token opens", opened)


def over_https(endpoint):
    import huggingface_hub as hub
    from huggingface_hub import errors

    for name in ["org/hidden", "org/none"]:
        raises(
            errors.RepositoryNotFoundError,
            lambda: hub.hf_hub_download(name, "config.json", endpoint=endpoint, token=False),
        )
    path = hub.hf_hub_download("org/tied", "config.json", endpoint=endpoint, force_download=True)
    assert pathlib.Path(path).read_bytes() == (MODELS / "tied" / "config.json").read_bytes()


def behind_tls(endpoint, folder):
    """Passes TLS connections on to the stand-in; gives the address."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    host, port = endpoint.removeprefix("http://").split(":")

    async def copy(reader, writer):
        try:
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        finally:
            writer.close()

    async def connected(reader, writer):
        inner = await asyncio.open_connection(host, int(port))
        both = [copy(reader, inner[1]), copy(inner[0], writer)]
        await asyncio.gather(*both, return_exceptions=True)

    ready = threading.Event()
    address = []

    async def run():
        server = await asyncio.start_server(connected, "localhost", 0, ssl=context)
        address.append(f"https://localhost:{server.sockets[0].getsockname()[1]}")
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    ready.wait(10)
    return address[0], certificate


def main():
    binary = sys.argv[1]
    # Set before the client is imported, as it reads them once.
    for name in list(os.environ):
        if name.startswith("HF_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        odd = folder / "odd"
        for path in ["a b/c.json", "m#1?%+[ü].json", "deep/er/model.bin", "percent%20.json"]:
            (odd / path).parent.mkdir(parents=True, exist_ok=True)
            (odd / path).write_text(path)
        server, endpoint = serve(binary, odd)
        os.environ |= {
            "HF_HOME": str(folder / "home"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        try:
            secure = None
            if shutil.which("openssl"):
                secure, certificate = behind_tls(endpoint, folder)
                os.environ["SSL_CERT_FILE"] = str(certificate)
            over_http(endpoint, odd)
            if secure:
                check("missing and hidden over https, without a token", lambda: over_https(secure))
        finally:
            server.stdin.close()
            server.wait(10)


if __name__ == "__main__":
    main()
