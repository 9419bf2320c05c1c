//! Lists of address ranges as people write them: one a line, or as a JSON list, each faulty line named with its number.

use portcullis_control::FieldFault;
use portcullis_model::address::Cidr;
use schemars::JsonSchema;
use serde::Deserialize;

use super::problem::Problem;

/// The most faults that are told at once.
const MAX_FAULTS: usize = 20;

/// A text with one entry a line, or a list of entries.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a list of address ranges, or a text with one a line")]
pub(super) enum Lines {
    /// One entry a line; empty lines do not count.
    Text(String),
    /// One entry each.
    List(Vec<String>),
}

impl Default for Lines {
    fn default() -> Self {
        Lines::List(Vec::new())
    }
}

/// The ranges of `field`, or every line that is none.
pub(super) fn ranges(field: &str, lines: Lines) -> Result<Vec<Cidr>, Problem> {
    let entries: Vec<(usize, String)> = match lines {
        Lines::Text(text) => text.lines().map(|line| line.trim().to_owned()).enumerate().collect(),
        Lines::List(list) => list.into_iter().enumerate().collect(),
    };
    let mut ranges = Vec::with_capacity(entries.len());
    let mut faults = Vec::new();
    for (index, entry) in entries.into_iter().filter(|(_, entry)| !entry.is_empty()) {
        match entry.parse::<Cidr>() {
            Ok(range) => ranges.push(range),
            Err(error) if faults.len() < MAX_FAULTS => {
                let what = format!("line {}: {error}", index + 1);
                faults.push(FieldFault { field: format!("{field}[{index}]"), what });
            }
            Err(_) => {}
        }
    }
    if faults.is_empty() { Ok(ranges) } else { Err(Problem::invalid(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_that_is_no_range_is_named() {
        let text = Lines::Text("192.0.2.1\n\n 10.0.0.7/8 \nnowhere\n2001:db8::/129\n".to_owned());
        let problem = serde_json::to_string(&ranges("ip_allowlist", text).unwrap_err()).unwrap();
        assert!(problem.contains("ip_allowlist[3]") && problem.contains("line 4"), "{problem}");
        assert!(problem.contains("ip_allowlist[4]") && problem.contains("line 5"), "{problem}");
        let text = Lines::Text("192.0.2.1\n\n 10.0.0.7/8 \n".to_owned());
        let ranges: Vec<String> = ranges("ip_allowlist", text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["192.0.2.1", "10.0.0.0/8"]);
    }
}
