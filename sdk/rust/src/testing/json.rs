//! JSON texts, merged and compared as the host does it: a number keeps every digit that somebody
//! wrote, whatever a machine's number can hold.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

type Fields = BTreeMap<String, Box<RawValue>>;

/// The new value laid over the old one, if there is one: objects are merged key by key, in depth;
/// anything else is replaced, lists too.
pub(crate) fn merged(old: Option<&str>, new: &str) -> String {
    let fields = |json: &str| serde_json::from_str::<Fields>(json).ok();
    let (Some(mut all), Some(changes)) = (old.and_then(fields), fields(new)) else {
        return new.to_owned();
    };
    for (key, value) in changes {
        let both = all
            .get(&key)
            .map(|old| merged(Some(old.get()), value.get()));
        let both = both.and_then(|both| RawValue::from_string(both).ok());
        all.insert(key, both.unwrap_or(value));
    }
    serde_json::to_string(&all).unwrap_or_else(|_| new.to_owned())
}

/// Whether two texts have the same value. What cannot be read is equal only to itself.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one == other || Plain::of(one).is_some_and(|one| Some(one) == Plain::of(other))
}

/// A value, however it was written.
#[derive(PartialEq)]
enum Plain {
    Object(BTreeMap<String, Plain>),
    List(Vec<Plain>),
    Text(String),
    /// Sign, significant digits, and the place of the first of them.
    Number(bool, String, i64),
    /// `true`, `false` or `null`.
    Word(String),
}

impl Plain {
    fn of(json: &str) -> Option<Self> {
        let json = json.trim();
        let of = |value: &RawValue| Self::of(value.get());
        match json.bytes().next()? {
            b'{' => {
                let fields = serde_json::from_str::<Fields>(json).ok()?.into_iter();
                let fields = fields.map(|(key, value)| Some((key, of(&value)?)));
                fields.collect::<Option<_>>().map(Self::Object)
            }
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(json).ok()?;
                let items = items.iter().map(|value| of(value));
                items.collect::<Option<_>>().map(Self::List)
            }
            b'"' => serde_json::from_str(json).ok().map(Self::Text),
            b'-' | b'0'..=b'9' => Self::number(json),
            _ => Some(Self::Word(json.to_owned())),
        }
    }

    fn number(json: &str) -> Option<Self> {
        let (is_negative, digits) = match json.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, json),
        };
        let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        let significant = digits.trim_start_matches('0');
        let leading = digits.len() - significant.len();
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
        let place = exponent.parse::<i64>().ok()?.checked_add(point)?;
        let significant = significant.trim_end_matches('0').to_owned();
        Some(match significant.is_empty() {
            true => Self::Number(false, significant, 0),
            false => Self::Number(is_negative, significant, place),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_however_they_are_written() {
        for (one, other, wanted) in [
            ("1", "1.0", true),
            ("10", "1e1", true),
            ("0", "-0.0", true),
            ("0.001", "1E-3", true),
            ("18446744073709551617", "18446744073709551618", false),
            ("1", "-1", false),
            ("1", "\"1\"", false),
            (r#"{"a":1,"b":[2]}"#, r#" {"b":[2.0],"a":1}"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (r#""\u0061""#, r#""a""#, true),
            ("null", "null ", true),
            ("[1,2]", "[2,1]", false),
        ] {
            assert_eq!(same(one, other), wanted, "{one} {other}");
        }
    }

    #[test]
    fn objects_are_merged_in_depth_and_other_values_replaced() {
        let long = "123456789012345678901234567890";
        let old = format!(r#"{{"a":{{"n":{long},"x":1}},"l":[1]}}"#);
        let both = merged(Some(&old), r#"{"a":{"x":2},"l":[2],"z":null}"#);
        let wanted = format!(r#"{{"a":{{"n":{long},"x":2}},"l":[2],"z":null}}"#);
        assert_eq!(both, wanted);
        assert_eq!(merged(None, "1.50"), "1.50");
        assert_eq!(merged(Some("[1]"), "{}"), "{}");
    }
}
