//! The chat's log: bounded, in order of arrival, each message once. It never sends; the call does, with what [`compose`] makes.

use std::sync::Arc;

use snug_wire::UserId;

use crate::channel::{ChatBody, body};
use crate::limits;

/// One chat message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Drawn by its sender.
    pub id: String,
    /// Who wrote it.
    pub from: UserId,
    /// Their name at that time.
    pub name: String,
    /// Cleaned text, with line breaks.
    pub text: String,
    /// Milliseconds since 1970: the sender's clock when it is within a day of ours, else ours.
    pub sent_at_ms: u64,
    /// Whether we wrote it.
    pub own: bool,
}

/// The messages, shared with snapshots.
#[derive(Default)]
pub(crate) struct ChatLog {
    pub(crate) messages: Arc<Vec<ChatMessage>>,
}

impl ChatLog {
    /// `None` for a message that is there already, or says nothing.
    pub(crate) fn add(
        &mut self,
        chat: &ChatBody,
        (from, name, own): (UserId, &str, bool),
        unix_ms: u64,
    ) -> Option<ChatMessage> {
        let text = clean_chat(&chat.text);
        if text.is_empty() || self.messages.iter().any(|old| old.id == chat.id && old.from == from) {
            return None;
        }
        let believed = unix_ms.abs_diff(chat.sent_at) < limits::CLOCK_MS;
        let sent_at_ms = if believed { chat.sent_at } else { unix_ms };
        let message = ChatMessage { id: chat.id.clone(), from, name: name.to_owned(), text, sent_at_ms, own };
        let messages = Arc::make_mut(&mut self.messages);
        if messages.len() >= limits::CHAT_LOG {
            messages.remove(0);
        }
        messages.push(message.clone());
        Some(message)
    }
}

/// What a person typed, in as many messages as it needs; each one's id comes from `draw_id`.
pub(crate) fn compose(text: &str, unix_ms: u64, mut draw_id: impl FnMut() -> String) -> Vec<ChatBody> {
    let cleaned = clean_chat(text);
    let mut rest = vec![cleaned.as_str()];
    let mut bodies = Vec::new();
    while let Some(piece) = rest.pop() {
        if piece.is_empty() {
            continue;
        }
        if body(&piece).len() <= limits::CHAT_BYTES {
            bodies.push(ChatBody { id: draw_id(), text: piece.to_owned(), sent_at: unix_ms });
            continue;
        }
        let (first, second) = piece.split_at(piece.ceil_char_boundary(piece.len() / 2));
        rest.extend([second, first]);
    }
    bodies
}

/// At most 4,000 characters without what hides or reorders text; line breaks stay.
fn clean_chat(text: &str) -> String {
    let lines = text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}'], "\n");
    let safe: String = lines.chars().filter(|c| c.is_whitespace() || !is_unsafe(*c)).collect();
    safe.trim().chars().take(limits::CHAT_CHARS).collect::<String>().trim_end().to_owned()
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
