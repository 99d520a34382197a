//! The text that a scrape gets, checked by the rules of its format and by those of `promtool check
//! metrics`, which itself is asked too where it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// All series of one name.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    help: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

type Labels = Vec<(String, String)>;

/// One histogram: its buckets, how many sums it has, and what it counts.
#[derive(Default)]
struct Series {
    buckets: Vec<(f64, f64)>,
    sums: usize,
    count: f64,
}

/// The ends of the names that a histogram's samples have.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Units that are not base units, and names of types: words that no name has.
const WORDS: [&str; 22] = [
    "ms",
    "us",
    "ns",
    "milliseconds",
    "microseconds",
    "minutes",
    "hours",
    "days",
    "kb",
    "mb",
    "gb",
    "kib",
    "mib",
    "gib",
    "kilobytes",
    "megabytes",
    "percent",
    "counter",
    "gauge",
    "histogram",
    "summary",
    "untyped",
];

/// The families of a scrape.
///
/// # Errors
/// When a rule is broken; the error says which and where.
pub fn check(text: &str) -> Result<BTreeMap<String, Family>> {
    ensure!(text.ends_with('\n'), "the last line has no end");
    let families = parse(text)?;
    for (name, family) in &families {
        check_family(name, family).with_context(|| format!("{name}: {family:?}"))?;
    }
    promtool(text)?;
    Ok(families)
}

fn parse(text: &str) -> Result<BTreeMap<String, Family>> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut open: Option<String> = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("no text in HELP")?;
            ensure!(!families.contains_key(name), "{name} is there twice");
            let family = families.entry(name.to_owned()).or_default();
            help.clone_into(&mut family.help);
            open = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("no type in TYPE")?;
            ensure!(open.as_deref() == Some(name), "{name} has no HELP");
            let family = families.entry(name.to_owned()).or_default();
            ensure!(family.kind.is_empty(), "{name} has two types");
            kind.clone_into(&mut family.kind);
        } else {
            let sample = sample(line).with_context(|| format!("in the line {line:?}"))?;
            let name = open.as_deref().context("a sample before any HELP")?;
            let family = families.get_mut(name).context("no family")?;
            let end = sample.name.strip_prefix(name);
            let is_part = match family.kind.as_str() {
                "histogram" => end.is_some_and(|end| PARTS.contains(&end)),
                _ => end == Some(""),
            };
            ensure!(is_part, "{line:?} stands among those of {name}");
            family.samples.push(sample);
        }
    }
    Ok(families)
}

fn sample(line: &str) -> Result<Sample> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').context("no end of labels")?),
        None => (series, ""),
    };
    let mut rest = labels;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").context("a label without a value")?;
        let mut escaped = false;
        let end = quoted.find(|c| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        let (value, behind) = quoted.split_at(end.context("a value without an end")?);
        labels.push((label.to_owned(), value.to_owned()));
        rest = behind.strip_prefix('"').unwrap_or(behind);
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().context("the value is no number")?,
    })
}

fn check_family(name: &str, family: &Family) -> Result<()> {
    let is_name = |text: &str| {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(rest)
    };
    ensure!(is_name(name), "it is no name in snake case");
    ensure!(!family.help.trim().is_empty(), "it has no help");
    let words: Vec<&str> = name.split('_').collect();
    let wrong = words.iter().find(|word| WORDS.contains(word));
    ensure!(wrong.is_none(), "its name has the word {wrong:?}");
    let is_counter = family.kind == "counter";
    ensure!(
        is_counter == name.ends_with("_total"),
        "counters, and they alone, end with _total"
    );
    ensure!(
        !PARTS.iter().any(|part| name.ends_with(part)),
        "it ends like a part of a histogram"
    );
    ensure!(!family.samples.is_empty(), "it has no series");
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.sort();
        ensure!(
            seen.insert((&sample.name, labels)),
            "{sample:?} is there twice"
        );
        for (label, _) in &sample.labels {
            let is_bucket = sample.name.ends_with("_bucket");
            ensure!(is_name(label), "{label} is no label");
            ensure!(
                (label == "le") == is_bucket || label != "le",
                "le is for buckets"
            );
            ensure!(label != "quantile", "quantile is for summaries");
        }
        ensure!(!is_counter || sample.value >= 0.0, "{sample:?} counts down");
    }
    match family.kind.as_str() {
        "counter" | "gauge" => Ok(()),
        "histogram" => check_histogram(name, family),
        other => bail!("it is of the type {other:?}"),
    }
}

fn check_histogram(name: &str, family: &Family) -> Result<()> {
    let mut series: BTreeMap<Labels, Series> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let le = labels.iter().find(|(label, _)| label == "le");
        let le = le.map(|(_, bound)| bound.parse::<f64>()).transpose()?;
        labels.retain(|(label, _)| label != "le");
        let Series {
            buckets,
            sums,
            count,
        } = series.entry(labels).or_default();
        match (sample.name.strip_prefix(name), le) {
            (Some("_bucket"), Some(le)) => buckets.push((le, sample.value)),
            (Some("_sum"), None) => *sums += 1,
            (Some("_count"), None) => *count = sample.value,
            other => bail!("{sample:?} is no part of it: {other:?}"),
        }
    }
    for (labels, of) in series {
        let Series {
            buckets,
            sums,
            count,
        } = of;
        ensure!(sums == 1, "{labels:?} has {sums} sums");
        let grow = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        ensure!(grow, "the buckets of {labels:?} do not grow");
        ensure!(
            buckets.last() == Some(&(f64::INFINITY, count)),
            "the last bucket of {labels:?} is not what it counts"
        );
    }
    Ok(())
}

/// What promtool says, if it is there.
fn promtool(text: &str) -> Result<()> {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // The rules above are its own; where it is installed it confirms them.
    let Ok(mut child) = command else {
        return Ok(());
    };
    let mut input = child.stdin.take().context("no standard input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success() && said.trim().is_empty(),
        "promtool: {said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

/// The sum of a metric over its series, if there are any.
pub(crate) fn sum_of(name: &str, metrics: &str) -> Option<f64> {
    let series = metrics
        .lines()
        .filter(|line| line.split([' ', '{']).next() == Some(name));
    let values: Vec<f64> = series
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP waves_total Waves.\n# TYPE waves_total counter\nwaves_total 3\n\n\
        # HELP wave_seconds How long they are.\n# TYPE wave_seconds histogram\n\
        wave_seconds_bucket{of=\"a\\\"}\",le=\"1\"} 1\nwave_seconds_bucket{of=\"a\\\"}\",le=\"+Inf\"} 2\n\
        wave_seconds_sum{of=\"a\\\"}\"} 3.5\nwave_seconds_count{of=\"a\\\"}\"} 2\n";

    #[test]
    fn what_follows_the_rules_is_taken_and_what_breaks_one_is_not() {
        assert_eq!(check(GOOD).unwrap().len(), 2);
        for (from, to) in [
            ("# HELP waves_total Waves.\n", ""),
            ("Waves.", " "),
            ("_total counter", "_total gauge"),
            ("waves_total 3", "waves_total 3\nwaves_total 3"),
            ("waves_total 3", "waves_total 3\nbreakers_total 3"),
            ("waves_total 3", "waves_total three"),
            ("waves", "waves_ms"),
            ("le=\"1\"} 1", "le=\"1\"} 3"),
            ("_count{of=\"a\\\"}\"} 2", "_count{of=\"a\\\"}\"} 3"),
            ("wave_seconds_sum{of=\"a\\\"}\"} 3.5\n", ""),
        ] {
            let text = GOOD.replace(from, to);
            assert!(check(&text).is_err(), "{from:?} → {to:?}: {text}");
        }
    }
}
