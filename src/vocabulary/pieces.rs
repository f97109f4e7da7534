//! A SentencePiece model, and lists of ranks as tiktoken writes them: what ids spell, and no more.
//!
//! Of SentencePiece's published schema (`sentencepiece_model.proto`) only what ids spell is read; the
//! stages around it are other programs', by which a token may or may not be made.

use super::listed::{CONTROL, Listed, UNKNOWN, added, piece};
use super::settings::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

#[derive(Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
}

#[derive(Message)]
struct Piece {
    #[prost(string, tag = "1")]
    piece: String,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

/// Classes that put four entries of fairseq's in front, in place of the model's own three.
const FAIRSEQ: [&str; 5] =
    ["MBart50Tokenizer", "MBartTokenizer", "NllbTokenizer", "XGLMTokenizer", "XLMRobertaTokenizer"];
const FAIRSEQ_FIRST: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];

/// Classes that give the entries other ids in ways of their own.
const OTHERWISE: [&str; 7] = [
    "BarthezTokenizer",
    "BartphoTokenizer",
    "CamembertTokenizer",
    "PLBartTokenizer",
    "PegasusTokenizer",
    "SeamlessM4TTokenizer",
    "XLMProphetNetTokenizer",
];

/// The list of a `tokenizer.model`, of either kind; `file` tells where the ids are not its own.
pub(super) fn read(file: &str, bytes: &[u8], settings: &Settings) -> Result<Listed, String> {
    let listed = match ranks(bytes) {
        Some(entries) => Listed::new(entries?, settings.complete),
        None => sentence_piece(file, bytes, settings)?,
    };
    Ok(listed.with(&settings.added))
}

fn sentence_piece(file: &str, bytes: &[u8], settings: &Settings) -> Result<Listed, String> {
    let model = Model::decode(bytes).map_err(|e| format!("it is no SentencePiece model ({e})"))?;
    let Model { pieces } = model;
    // As SentencePiece itself refuses it.
    if pieces.is_empty() || pieces.iter().any(|piece| piece.piece.is_empty()) {
        return Err("it is no SentencePiece model (an entry is empty, or there is none)".into());
    }
    let class = settings.class.as_deref();
    let shifted = class.is_some_and(|class| FAIRSEQ.contains(&class));
    if let Some(class) = class.filter(|class| OTHERWISE.contains(class)) {
        return Err(format!("{class} does not use the ids of the file"));
    }
    if !shifted && file.ends_with("sentencepiece.bpe.model") {
        let said = class.unwrap_or("no tokenizer_class");
        return Err(format!("which ids its entries have is not known ({said})"));
    }
    let spelled = |(id, one): (u32, Piece)| {
        let kind = one.kind.unwrap_or_default();
        let bytes = match kind {
            CONTROL | UNKNOWN => one.piece.into_bytes(),
            kind => piece(&one.piece, kind),
        };
        (id, bytes, added(kind))
    };
    if !shifted {
        return Ok(Listed::new((0..).zip(pieces).map(spelled), settings.complete));
    }
    let own = (4u32..).zip(pieces.into_iter().skip(3)).map(spelled);
    let first = (0..).zip(FAIRSEQ_FIRST).map(|(id, text)| (id, text.into(), Some(true)));
    Ok(Listed::new(first.chain(own), settings.complete))
}

/// The entries of a list of ranks, if it is one: a line each, its bytes in base64 and its id.
#[expect(clippy::type_complexity, reason = "the form of entries")]
fn ranks(bytes: &[u8]) -> Option<Result<Vec<(u32, Vec<u8>, Option<bool>)>, String>> {
    let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| line.trim_ascii_end());
    rank(lines.clone().next()?)?;
    let wrong = |number: usize| format!("line {} is no entry of a list of ranks", number + 1);
    let entries = lines.by_ref().enumerate().filter(|(_, line)| !line.is_empty());
    Some(entries.map(|(number, line)| rank(line).ok_or_else(|| wrong(number))).collect())
}

fn rank(line: &[u8]) -> Option<(u32, Vec<u8>, Option<bool>)> {
    let (text, id) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((id.parse().ok()?, STANDARD.decode(text).ok()?, None))
}
