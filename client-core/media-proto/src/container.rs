//! What a file is, by its first bytes: so that somebody who gives an MP4 where a WAV is wanted reads just that.

/// Bytes that [`kind`] wants to see; of a shorter file all.
pub const START: usize = 64;

/// The kind of file that starts like this, as the end of "it is …". `None` when it is nothing that is known.
pub fn kind(start: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, mark: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(mark));
    let known = MARKS.iter().find(|(offset, mark, _)| at(*offset, mark)).map(|(_, _, name)| *name);
    known.or_else(|| {
        let frame = matches!(start, [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0);
        if start.is_empty() {
            Some("an empty file")
        } else if frame {
            Some("an MP3 or AAC file")
        } else if is_text(start) {
            Some("a text file")
        } else {
            None
        }
    })
}

const MARKS: [(usize, &[u8], &str); 21] = [
    (8, b"WAVE", "a WAV file"),
    (8, b"AVI ", "an AVI file"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftyp", "an MP4 file"),
    (4, b"moov", "an MP4 file"),
    (0, b"YUV4MPEG2 ", "a y4m file"),
    (0, b"DKIF", "an IVF file"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"ID3", "an MP3 file"),
    (0, b"FORM", "an AIFF file"),
    (0, b"caff", "a CAF file"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP file"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x7fELF", "a program"),
    (0, b"RIFF", "a RIFF file without sound"),
];

fn is_text(start: &[u8]) -> bool {
    // The last character may be cut.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if start.len() >= START && error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        for (start, wanted) in [
            (&b""[..], Some("an empty file")),
            (b"RIFF\xff\xff\xff\xffWAVEfmt ", Some("a WAV file")),
            (b"RIFF\x10\0\0\0AVI LIST", Some("an AVI file")),
            (b"\0\0\0\x20ftypisom", Some("an MP4 file")),
            (b"\x89PNG\r\n\x1a\n", Some("a PNG picture")),
            (b"YUV4MPEG2 W64", Some("a y4m file")),
            (b"DKIF\0\0\x20\0VP80", Some("an IVF file")),
            (b"\xff\xfb\x90\x44", Some("an MP3 or AAC file")),
            ("Grüße\n".as_bytes(), Some("a text file")),
            (b"\x01\x02\x03\x04", None),
            (b"DK", Some("a text file")),
        ] {
            assert_eq!(kind(start), wanted, "{start:?}");
        }
        let mut cut = vec![b'a'; START - 1];
        cut.push(0xc3);
        assert_eq!(kind(&cut), Some("a text file"), "cut within a character");
    }
}
