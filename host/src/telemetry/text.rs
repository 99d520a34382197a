//! How the fields of a line are written for people: one event is one line, whatever others put into
//! it. Control characters, and those that turn the direction of text round, are escaped, so that no
//! name, message or reason forges a line or speaks to a terminal.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// More of one value is cut off.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// Writes `message name=value …`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped;

impl<'w> FormatFields<'w> for Escaped {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut fields_of = Fields {
            writer,
            first: true,
            result: Ok(()),
        };
        fields.record(&mut fields_of);
        fields_of.result
    }
}

struct Fields<'w> {
    writer: Writer<'w>,
    first: bool,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: &dyn Debug) -> fmt::Result {
        if !std::mem::replace(&mut self.first, false) {
            self.writer.write_char(' ')?;
        }
        let (slanted, faint, plain) = match self.writer.has_ansi_escapes() {
            true => ("\x1b[3m", "\x1b[2m", "\x1b[0m"),
            false => ("", "", ""),
        };
        if field.name() != "message" {
            let name = field.name().trim_start_matches("r#");
            write!(self.writer, "{slanted}{name}{plain}{faint}={plain}")?;
        }
        let mut escaping = Escaping {
            writer: &mut self.writer,
            left: VALUE_BYTES_MAX,
            cut: false,
        };
        write!(escaping, "{value:?}")
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // What the `log` facade adds stands in the line already.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field, value);
        }
    }
}

struct Escaping<'a, 'w> {
    writer: &'a mut Writer<'w>,
    left: usize,
    cut: bool,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for it in text.chars() {
            if self.cut {
                return Ok(());
            }
            if self.left < it.len_utf8() {
                self.cut = true;
                return self.writer.write_char('…');
            }
            self.left -= it.len_utf8();
            if is_dangerous(it) {
                write!(self.writer, "{}", it.escape_default())?;
            } else {
                self.writer.write_char(it)?;
            }
        }
        Ok(())
    }
}

/// Control characters, ends of lines, and marks that reorder text.
fn is_dangerous(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(ansi: bool, say: impl FnOnce()) -> String {
        let kept = Kept::default();
        let own = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(Escaped)
            .without_time()
            .with_ansi(ansi)
            .with_writer(move || own.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn fields_look_as_usual() {
        let line = logged(
            false,
            || tracing::info!(a = 1, b = "two", c = %"three", "it is {}", 4),
        );
        assert!(
            line.ends_with(": it is 4 a=1 b=\"two\" c=three\n"),
            "{line:?}"
        );
    }

    #[test]
    fn nothing_that_others_say_forges_a_line_or_speaks_to_a_terminal() {
        let evil = "x\nINFO forged\r\x1b[2J\u{9b}31m\u{202e}\u{2028}\u{7}";
        for ansi in [false, true] {
            let line = logged(ansi, || {
                let span = tracing::info_span!("link", peer = %evil);
                span.in_scope(|| tracing::warn!(name = %evil, text = evil, "{evil}"));
            });
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.ends_with('\n'));
            for bad in ['\r', '\u{9b}', '\u{202e}', '\u{2028}', '\u{7}'] {
                assert!(!line.contains(bad), "{line:?}");
            }
            assert!(!line.contains("\x1b[2J"), "{line:?}");
        }
    }

    #[test]
    fn a_value_is_cut_where_it_is_too_long() {
        let long = "ü".repeat(VALUE_BYTES_MAX);
        let line = logged(false, || tracing::info!("{long}"));
        assert!(line.len() < VALUE_BYTES_MAX + 200);
        assert!(line.ends_with("…\n"), "{line}");
    }
}
