//! A complete scan without any network.

use singularity_survey::error::Result;

pub(crate) async fn demo() -> Result<()> {
    Ok(())
}
