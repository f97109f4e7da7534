//! A stand-in Hub for other programs to test against:
//!
//! ```console
//! $ cargo run --example standin -- org/name=./folder org/gated=./folder,gated=auto,token=hf_x
//! {"cdn":"http://127.0.0.1:40403","endpoint":"http://127.0.0.1:34567"}
//! ```
//!
//! Each argument is a repository: its id, the folder that it is made from, and then in any order
//! `gated=auto|manual`, `private`, `disabled`, `token=T`, `alias=OLD/NAME`, `revision=NAME`.
//! `page=N` alone sets the length of listings, `token=T` alone a token that opens nothing. The
//! servers run until standard input ends. Set `HF_ENDPOINT` to the address that is printed, and
//! `HF_HUB_DISABLE_XET=1`, because native Xet is not spoken here.

use singularity_survey::standin::{Builder, Gating, Repository, StandIn};
use std::error::Error;
use std::path::Path;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = StandIn::builder();
    for argument in std::env::args().skip(1) {
        builder = add(builder, &argument)?;
    }
    let hub = builder.start().await?;
    let shown = serde_json::json!({ "endpoint": hub.endpoint(), "cdn": hub.cdn_endpoint() });
    #[expect(clippy::print_stdout, reason = "its one line of output")]
    {
        println!("{shown}");
    }
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    Ok(())
}

fn add(builder: Builder, argument: &str) -> Result<Builder, Box<dyn Error>> {
    let (name, value) = argument.split_once('=').ok_or("an argument is NAME=VALUE")?;
    match name {
        "page" => return Ok(builder.page(value.parse()?)),
        "token" => return Ok(builder.token(value)),
        _ => {}
    }
    let mut parts = value.split(',');
    let folder = parts.next().unwrap_or_default();
    let mut repository = Repository::directory(name, Path::new(folder))?;
    for part in parts {
        repository = match part.split_once('=').unwrap_or((part, "")) {
            ("gated", "auto") => repository.gated(Gating::Auto),
            ("gated", "manual") => repository.gated(Gating::Manual),
            ("private", "") => repository.private(),
            ("disabled", "") => repository.disabled(),
            ("token", token) => repository.token(token),
            ("alias", old) => repository.alias(old),
            ("revision", name) => repository.revision(name),
            _ => return Err(format!("what is {part:?}?").into()),
        };
    }
    Ok(builder.repository(repository))
}
