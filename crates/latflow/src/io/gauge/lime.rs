//! LIME, the container of ILDG and SciDAC files: records of bytes, each with a type.
//!
//! ```text
//! offset  size  a record, big-endian
//! 0       4     magic 456789ab
//! 4       2     version 1
//! 6       2     flags: 8000 first of a message, 4000 last of a message, the others 0
//! 8       8     length of the data
//! 16      128   type, ASCII, filled with NUL
//! 144           data, then NUL up to a multiple of 8
//! ```
//!
//! A message is a group of records. Whether its flags follow the rules is not checked, since files of well-known codes break
//! them; everything else is.

use super::fault::{Fault, TRUNCATED};

/// The first four bytes of a record.
pub(super) const MAGIC: [u8; 4] = [0x45, 0x67, 0x89, 0xab];

const HEADER: usize = 144;
const VERSION: u16 = 1;
const MESSAGE_BEGIN: u16 = 0x8000;
const MESSAGE_END: u16 = 0x4000;
const ALIGNMENT: usize = 8;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// Of its header in the file.
    pub(super) offset: usize,
    pub(super) kind: &'a str,
    pub(super) begins_message: bool,
    pub(super) ends_message: bool,
    pub(super) data: &'a [u8],
}

impl Record<'_> {
    /// The record, for people.
    pub(super) fn name(&self) -> String {
        format!("record {} ({})", self.number, self.kind)
    }
}

/// All records of a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Record<'_>>, Fault> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (record, after) = parse_record(rest, records.len() + 1, bytes.len() - rest.len())?;
        records.push(record);
        rest = after;
    }
    Ok(records)
}

fn parse_record(bytes: &[u8], number: usize, offset: usize) -> Result<(Record<'_>, &[u8]), Fault> {
    let at = format!("record {number} (LIME header at byte {offset})");
    let damaged = |expected: &str, got: String| {
        let remedy = if number == 1 {
            "the file is damaged: get it again from where it came"
        } else {
            "this header is damaged, or the length in the header before it: get the file again from where it came"
        };
        Fault::new(at.as_str(), expected, got, remedy)
    };
    let end = |n: usize| format!("{n} bytes, then the end of the file");
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Fault::new(at, format!("{HEADER} bytes"), end(bytes.len()), TRUNCATED));
    };
    if header[..4] != MAGIC {
        return Err(damaged("the magic number 456789ab", hexadecimal(&header[..4])));
    }
    let version = u16::from_be_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(damaged("LIME version 1", version.to_string()));
    }
    let flags = u16::from_be_bytes([header[6], header[7]]);
    if flags & !(MESSAGE_BEGIN | MESSAGE_END) != 0 {
        return Err(damaged("no flags but 8000 and 4000", format!("{flags:04x}")));
    }
    let kind = kind(&header[16..]).ok_or_else(|| {
        damaged("a type in ASCII, filled with NUL", format!("{:?}", String::from_utf8_lossy(&header[16..])))
    })?;
    let name = || format!("record {number} ({kind})");
    let length = header[8..16].iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let Some((data, rest)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
    else {
        return Err(Fault::new(name(), format!("{length} bytes of data"), end(rest.len()), TRUNCATED));
    };
    let padding = data.len().next_multiple_of(ALIGNMENT) - data.len();
    let Some((filling, rest)) = rest.split_at_checked(padding) else {
        return Err(Fault::new(name(), format!("{padding} NUL after its data"), end(rest.len()), TRUNCATED));
    };
    if filling.iter().any(|byte| *byte != 0) {
        let remedy =
            "the file is damaged, or the length of this record: get the file again from where it came";
        let expected = format!("{padding} NUL after its data");
        return Err(Fault::new(name(), expected, hexadecimal(filling), remedy));
    }
    let (begins_message, ends_message) = (flags & MESSAGE_BEGIN != 0, flags & MESSAGE_END != 0);
    Ok((Record { number, offset, kind, begins_message, ends_message, data }, rest))
}

fn kind(field: &[u8]) -> Option<&str> {
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let (name, filling) = field.split_at(length);
    let printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(name).ok()?;
    (printable && filling.iter().all(|byte| *byte == 0)).then_some(text)
}

/// Bytes for people.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file with these messages, each a list of types, of 1 to 128 bytes of ASCII, and data.
pub(super) fn compose(messages: &[&[(&str, &[u8])]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        for (index, (kind, data)) in message.iter().enumerate() {
            let begin = if index == 0 { MESSAGE_BEGIN } else { 0 };
            let end = if index + 1 == message.len() { MESSAGE_END } else { 0 };
            bytes.extend(MAGIC);
            bytes.extend(VERSION.to_be_bytes());
            bytes.extend((begin | end).to_be_bytes());
            bytes.extend((data.len() as u64).to_be_bytes());
            bytes.extend(kind.bytes().chain(std::iter::repeat(0)).take(HEADER - 16));
            bytes.extend(*data);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{MAGIC, compose, parse};
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Message = Vec<(String, Vec<u8>)>;

    fn composed(messages: &[Message]) -> Vec<u8> {
        let messages: Vec<Vec<(&str, &[u8])>> = messages
            .iter()
            .map(|message| message.iter().map(|(kind, data)| (kind.as_str(), data.as_slice())).collect())
            .collect();
        compose(&messages.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        vec(vec(("[!-~]{1,128}", vec(any::<u8>(), 0..40)), 1..4), 1..4)
    }

    proptest! {
        #[test]
        fn records_come_back(messages in messages()) {
            let bytes = composed(&messages);
            let records = parse(&bytes).unwrap();
            let mut next = records.iter();
            for message in &messages {
                for (index, (kind, data)) in message.iter().enumerate() {
                    let record = next.next().unwrap();
                    prop_assert_eq!((record.kind, record.data), (kind.as_str(), data.as_slice()));
                    prop_assert_eq!(record.begins_message, index == 0);
                    prop_assert_eq!(record.ends_message, index + 1 == message.len());
                    prop_assert_eq!(&bytes[record.offset..][..4], &MAGIC);
                }
            }
            prop_assert!(next.next().is_none());
        }

        /// A cut anywhere but between two records is noticed.
        #[test]
        fn cuts_are_noticed(messages in messages(), cut in any::<prop::sample::Index>()) {
            let bytes = composed(&messages);
            let cut = cut.index(bytes.len());
            let records = parse(&bytes).unwrap();
            let between = records.iter().any(|record| record.offset == cut);
            let outcome = parse(&bytes[..cut]);
            prop_assert_eq!(outcome.is_ok(), between);
            if let Err(fault) = outcome {
                prop_assert!(fault.remedy.contains("truncated"), "{}", fault);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn random_lengths_never_panic(data in vec(1u8.., 0..300), length in any::<u64>(), shift in 0u32..64) {
            let mut bytes = compose(&[&[("ildg-format", &data)]]);
            let length = length >> shift;
            bytes[8..16].copy_from_slice(&length.to_be_bytes());
            if let Ok(records) = parse(&bytes) {
                prop_assert_eq!(records[0].data.len() as u64, length);
                prop_assert!(length >= data.len() as u64, "data were taken for padding");
            }
        }

        /// A flipped bit of a header is noticed, unless it is one of the two message flags, makes another type, or counts
        /// some of the padding as data.
        #[test]
        fn flipped_bits_are_noticed(data in vec(1u8.., 1..40), byte in 0usize..144, bit in 0u32..8) {
            let bytes = compose(&[&[("ildg-format", &data), ("ildg-binary-data", &data)]]);
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << bit;
            let harmless = byte == 6 && bit >= 6;
            match parse(&flipped) {
                Ok(records) => {
                    let changed = records[0].kind != "ildg-format" || records[0].data.len() > data.len();
                    prop_assert!(harmless || changed);
                }
                Err(_) => prop_assert!(!harmless),
            }
        }
    }
}
