//! JSON texts, compared and merged without reading numbers: each keeps every digit that somebody
//! wrote, whatever a machine's number can hold.
//!
//! Values that are nested deeper than `DEPTH_MAX` are opaque: equal only to themselves, and
//! replaced as a whole.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

/// As deep as parsers of JSON commonly go.
pub const DEPTH_MAX: usize = 128;

/// One level of a value.
enum Shape<'a> {
    Object(BTreeMap<String, &'a RawValue>),
    List(Vec<&'a RawValue>),
    Text(String),
    Number(&'a str),
    /// `true`, `false` or `null`.
    Word(&'a str),
}

impl<'a> Shape<'a> {
    /// None for what is no JSON.
    fn of(json: &'a str) -> Option<Self> {
        let json = json.trim_ascii();
        match json.bytes().next()? {
            b'{' => serde_json::from_str(json).ok().map(Self::Object),
            b'[' => serde_json::from_str(json).ok().map(Self::List),
            b'"' => serde_json::from_str(json).ok().map(Self::Text),
            first => {
                let value: &RawValue = serde_json::from_str(json).ok()?;
                Some(match first {
                    b'-' | b'0'..=b'9' => Self::Number(value.get()),
                    _ => Self::Word(value.get()),
                })
            }
        }
    }
}

/// Whether two JSON texts have the same value. What does not parse is equal only to itself.
#[must_use]
pub fn same_json(one: &str, other: &str) -> bool {
    same(one, other, DEPTH_MAX)
}

fn same(one: &str, other: &str, depth: usize) -> bool {
    if one == other {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    let same = |(one, other): (&RawValue, &RawValue)| same(one.get(), other.get(), depth);
    match (Shape::of(one), Shape::of(other)) {
        (Some(Shape::Object(one)), Some(Shape::Object(other))) => {
            one.len() == other.len()
                && one.keys().eq(other.keys())
                && one.into_values().zip(other.into_values()).all(same)
        }
        (Some(Shape::List(one)), Some(Shape::List(other))) => {
            one.len() == other.len() && one.into_iter().zip(other).all(same)
        }
        (Some(Shape::Text(one)), Some(Shape::Text(other))) => one == other,
        (Some(Shape::Word(one)), Some(Shape::Word(other))) => one == other,
        (Some(Shape::Number(one)), Some(Shape::Number(other))) => {
            let (one, other) = (decimal(one), decimal(other));
            one.is_some() && one == other
        }
        _ => false,
    }
}

/// Sign, significant digits and the exponent of the first of them; none if the exponent has more
/// digits than anybody means.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    let leading = digits.len() - significant.len();
    let significant = significant.trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let point = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
    Some((
        negative,
        significant.to_owned(),
        exponent.checked_add(point)?,
    ))
}

/// The new value laid over the old one, if there is one: objects are merged key by key, in depth;
/// anything else is replaced, lists too.
#[must_use]
pub fn merged(old: Option<&str>, new: &str) -> String {
    let both = old.and_then(|old| merge(old, new, DEPTH_MAX));
    both.unwrap_or_else(|| new.to_owned())
}

/// None if there is nothing to merge.
fn merge(old: &str, new: &str, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let Shape::Object(new) = Shape::of(new)? else {
        return None;
    };
    let Shape::Object(old) = Shape::of(old)? else {
        return None;
    };
    let mut all: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    for (key, old) in &old {
        if !new.contains_key(key) {
            all.insert(key.clone(), (*old).to_owned());
        }
    }
    for (key, value) in new {
        let both = old
            .get(&key)
            .and_then(|old| merge(old.get(), value.get(), depth));
        let both = both.and_then(|both| RawValue::from_string(both).ok());
        all.insert(key, both.unwrap_or_else(|| value.to_owned()));
    }
    Some(to_raw_value(&all).ok()?.get().to_owned())
}

/// How deeply a JSON text is nested: 0 for a single value. The text is not checked.
#[must_use]
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More digits than 64 bits or a double hold.
    const LONG: &str = "123456789012345678901234567890";

    #[test]
    fn objects_are_merged_in_depth_and_other_values_replaced() {
        for (old, new, wanted) in [
            (
                r#"{"a":{"b":1}}"#,
                r#"{"a":{"c":2}}"#,
                r#"{"a":{"b":1,"c":2}}"#,
            ),
            (r#"{"a":[1,3]}"#, r#"{"a":[2]}"#, r#"{"a":[2]}"#),
            ("1", r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, "[]", "[]"),
            (r#"{"a":1}"#, r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":null}"#, r#"{"a":null}"#),
            ("{", "{}", "{}"),
        ] {
            assert_eq!(merged(Some(old), new), wanted, "{old} {new}");
        }
    }

    #[test]
    fn numbers_keep_every_digit_when_their_neighbours_are_merged() {
        for number in [LONG, "1e400", "-0.10000000000000000000001", "1.00"] {
            let old = format!(r#"{{"a":{{"n":{number}}},"m":{number}}}"#);
            let both = merged(Some(&old), &format!(r#"{{"a":{{"o":{number}}}}}"#));
            let wanted = format!(r#"{{"a":{{"n":{number},"o":{number}}},"m":{number}}}"#);
            assert_eq!(both, wanted);
        }
    }

    #[test]
    fn json_is_compared_by_value() {
        for (one, other) in [
            (r#"{"a":1,"b":[2]}"#, r#"{ "b": [2], "a": 1 }"#),
            ("\"\\u0061\"", "\"a\""),
            ("1", "1.0"),
            ("100", "1e2"),
            ("-0.5", "-5E-1"),
            ("0", "-0.0e7"),
            ("not json", "not json"),
            (LONG, LONG),
        ] {
            assert!(same_json(one, other), "{one} {other}");
        }
        let next = LONG.replace("7890", "7891");
        for (one, other) in [
            (LONG, &*next),
            ("18446744073709551616", "18446744073709551617"),
            ("1e400", "1e401"),
            ("0.1", "0.10000000000000000000001"),
            ("1", "-1"),
            ("1", "\"1\""),
            ("[1,2]", "[2,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            ("null", "false"),
            ("{", "[1"),
        ] {
            assert!(!same_json(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_nested_too_deeply_is_opaque() {
        let nested = |depth: usize, inner: &str| {
            format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth))
        };
        assert_eq!(depth(&nested(7, r#""[\"[""#)), 7);
        assert!(same_json(&nested(100, "1"), &nested(100, " 1")));
        let deep = nested(100_000, "1");
        assert!(!same_json(&deep, &nested(100_000, " 1")));
        assert!(same_json(&deep, &deep));
        let object = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(merged(Some(&object(300)), &object(200)), object(200));
    }
}
