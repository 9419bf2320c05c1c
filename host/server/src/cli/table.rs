//! Records for people: a list as a table, one record as a page.

use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use portcullis_model::method::Methods;
use serde_json::Value;

use crate::output::Visible;

/// What is shown of a record: a title, and the values out of its JSON, of which there may be none or many.
pub(super) struct Column(pub(super) &'static str, pub(super) fn(&Value) -> Vec<String>);

/// How many values a cell of a table shows; the page of the record shows them all.
const CELL_VALUES: usize = 3;
/// The space between columns.
const GAP: u16 = 2;

/// Records as a table without borders, a line each.
pub(super) fn list(columns: &[Column], records: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns.iter().map(|Column(title, _)| title.to_uppercase()));
    for record in records {
        table.add_row(columns.iter().map(|Column(_, values)| cell(&values(record))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

fn cell(values: &[String]) -> String {
    let shown: Vec<String> = values.iter().take(CELL_VALUES).map(|value| Visible(value).to_string()).collect();
    match values.len() {
        0 => "-".to_owned(),
        many if many > CELL_VALUES => format!("{} (+{})", shown.join(", "), many - CELL_VALUES),
        _ => shown.join(", "),
    }
}

/// One record as lines of a title and a value; what it does not have is left out.
pub(super) fn page(columns: &[Column], record: &Value) -> String {
    let width = columns.iter().map(|Column(title, _)| title.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Column(title, values) in columns {
        let titles = std::iter::once(*title).chain(std::iter::repeat(""));
        for (title, value) in titles.zip(values(record)) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{title:width$}  {}", Visible(&value));
        }
    }
    text
}

/// The values of a field, by its JSON pointer (RFC 6901).
pub(super) fn at(record: &Value, pointer: &str) -> Vec<String> {
    match record.pointer(pointer) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(word).collect(),
        Some(value) => vec![word(value)],
    }
}

/// Methods, told in one word where they are all that there are.
pub(super) fn methods(record: &Value, pointer: &str) -> Vec<String> {
    let names = at(record, pointer);
    if names.len() == Methods::ALL.iter().count() { vec!["all".to_owned()] } else { vec![names.join(",")] }
}

/// A value in one word.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A number of seconds.
pub(super) fn seconds(record: &Value, pointer: &str) -> Vec<String> {
    at(record, pointer).into_iter().map(|seconds| seconds + " s").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[Column] = &[
        Column("id", |record| at(record, "/id")),
        Column("hosts", |record| at(record, "/hosts")),
        Column("on", |record| at(record, "/on")),
    ];

    #[test]
    fn a_list_is_a_table() {
        let records = [
            json!({"id": "shop", "hosts": ["a", "b", "c"], "on": true}),
            json!({"id": "\u{1b}[31m", "hosts": ["a", "b", "c", "d", "e"], "on": null}),
            json!({"id": 7, "hosts": []}),
        ];
        let expected = "ID     HOSTS         ON\nshop   a, b, c       yes\n\u{fffd}[31m  a, b, c (+2)  -\n7      -             -\n";
        assert_eq!(list(COLUMNS, &records), expected);
    }

    #[test]
    fn a_record_is_a_page() {
        let record = json!({"id": "shop", "hosts": ["a", "b"], "on": null, "other": 1});
        assert_eq!(page(COLUMNS, &record), "id     shop\nhosts  a\n       b\n");
    }
}
