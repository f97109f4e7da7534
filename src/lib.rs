//! x
pub mod quote;
pub mod error;
pub mod observe;
pub mod source;
pub mod resolve;
pub mod checkpoint;
pub mod head;
pub mod rows;
pub mod analysis;
pub mod scan;
pub mod vocabulary;
pub mod report;
pub mod pipeline;
#[cfg(feature = "standin")]
pub mod standin;
