//! The little XML that gauge configuration files contain: elements with a number or a word in them.

use super::fault::{DAMAGED, Fault};
use super::lime::Record;

/// The text of a record. Some codes count a closing NUL.
pub(super) fn text<'a>(record: &Record<'a>) -> Result<&'a str, Fault> {
    let text = std::str::from_utf8(record.data).ok().map(|text| text.trim_end_matches('\0'));
    let plain = |c: char| !c.is_control() || c.is_ascii_whitespace();
    text.filter(|text| text.chars().all(plain)).ok_or_else(|| {
        let got = String::from_utf8_lossy(record.data);
        let damage = got.chars().position(|c| c == '\u{fffd}' || !plain(c)).unwrap_or_default();
        Fault::new(record.name(), "text", format!("other bytes after {damage} characters"), DAMAGED)
    })
}

/// A record that is XML.
#[derive(Debug, Clone)]
pub(super) struct Element<'a> {
    record: String,
    text: &'a str,
}

impl<'a> Element<'a> {
    pub(super) fn root(record: &Record<'a>) -> Result<Self, Fault> {
        Ok(Self { record: record.name(), text: text(record)? })
    }

    /// The record, for people.
    pub(super) fn record(&self) -> String {
        self.record.clone()
    }

    /// An element of the record, for people.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{} <{name}>", self.record)
    }

    /// What stands between `<name …>` and `</name>`, without the space around it.
    pub(super) fn optional(&self, name: &str) -> Option<&'a str> {
        let opening = format!("<{name}");
        let inside = self.text.match_indices(&opening).find_map(|(start, _)| {
            let after = &self.text[start + opening.len()..];
            let (attributes, inside) = after.split_once('>')?;
            let whole_name =
                attributes.is_empty() || attributes.starts_with(|c: char| c.is_ascii_whitespace());
            whole_name.then_some(inside)
        })?;
        Some(inside.split_once(&format!("</{name}>"))?.0.trim())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a str, Fault> {
        self.optional(name).ok_or_else(|| {
            Fault::new(self.record.as_str(), format!("an element <{name}>"), "none", DAMAGED_DESCRIPTION)
        })
    }

    pub(super) fn extent(&self, name: &str, text: &str) -> Result<usize, Fault> {
        text.parse()
            .ok()
            .filter(|extent| *extent > 0)
            .ok_or_else(|| self.fault(name, "a positive number", text))
    }

    pub(super) fn fault(&self, name: &str, expected: &str, got: &str) -> Fault {
        Fault::new(self.place(name), expected, format!("{got:?}"), DAMAGED_DESCRIPTION)
    }
}

/// The remedy when the links cannot be understood.
const DAMAGED_DESCRIPTION: &str =
    "the file is damaged, or is not a gauge configuration: get it again from where it came";

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn elements_are_found_by_their_whole_name() {
        let xml = |text| Element { record: String::new(), text };
        let format = xml("<?xml?><f a=\"b\">\n <lxx>1</lxx><lx> 4 </lx>\n<ly >5</ly><v></v><cut>1</f>");
        assert_eq!(format.optional("lx"), Some("4"));
        assert_eq!(format.optional("ly"), Some("5"));
        assert_eq!(format.optional("v"), Some(""));
        assert_eq!(format.optional("l"), None);
        assert_eq!(format.optional("cut"), None);
        assert!(xml("<a").optional("a").is_none());
    }
}
