//! The document as a page: HTML made once, at the start.

use std::fmt::Write as _;

use serde_json::Value;

/// The page. All text of the document is escaped.
pub(super) fn page(document: &Value) -> String {
    let mut html = String::with_capacity(1 << 18);
    // Writing to a string cannot fail.
    let _ = write(&mut html, document);
    html
}

fn write(html: &mut String, document: &Value) -> std::fmt::Result {
    let title = escaped(text(document, "/info/title"));
    let version = escaped(text(document, "/info/version"));
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <link rel=\"stylesheet\" href=\"/docs/style.css\">\n<script src=\"/docs/filter.js\" defer></script>\n</head>\n\
         <body>\n<header>\n<h1>{title} <small>{version}</small></h1>\n\
         <p><a href=\"{}\">OpenAPI 3.1</a> · <a href=\"#codes\">codes of problems</a> · <a href=\"#schemas\">schemas</a></p>\n\
         <p id=\"filter\" hidden><label>Filter <input type=\"search\" placeholder=\"tenant-keys\"></label></p>\n</header>\n\
         <main>\n",
        super::API_PATH
    )?;
    let (prose, table) = text(document, "/info/description").split_once("\n| ").unwrap_or_default();
    for paragraph in prose.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        writeln!(html, "<p>{}</p>", inline(paragraph))?;
    }
    for tag in list(document, "/tags") {
        let (name, words) = (text(tag, "/name"), text(tag, "/description"));
        writeln!(
            html,
            "<section class=\"tag\">\n<h2 id=\"{0}\">{1} <code>{0}</code></h2>",
            escaped(name),
            escaped(words)
        )?;
        for (path, method, operation) in operations(document) {
            if list(operation, "/tags").first().and_then(Value::as_str) == Some(name) {
                write_operation(html, path, method, operation)?;
            }
        }
        html.push_str("</section>\n");
    }
    html.push_str("<h2 id=\"schemas\">Schemas</h2>\n");
    for (name, schema) in fields(document, "/components/schemas") {
        write_schema(html, name, schema)?;
    }
    html.push_str("<h2 id=\"codes\">Codes of problems</h2>\n");
    write_table(html, table)?;
    html.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

fn write_operation(html: &mut String, path: &str, method: &str, operation: &Value) -> std::fmt::Result {
    let upper = method.to_uppercase();
    writeln!(
        html,
        "<details class=\"operation\" id=\"{}\">\n<summary><b class=\"{method}\">{upper}</b> <code>{}</code> {}</summary>\n<p>{}</p>",
        escaped(text(operation, "/operationId")),
        escaped(path),
        inline(text(operation, "/summary")),
        inline(text(operation, "/description")),
    )?;
    let parameters = list(operation, "/parameters");
    if !parameters.is_empty() {
        html.push_str("<table>\n<tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>\n");
        for parameter in parameters {
            let required = parameter.pointer("/required") == Some(&Value::Bool(true));
            writeln!(
                html,
                "<tr><td><code>{}</code>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(text(parameter, "/name")),
                if required { " *" } else { "" },
                escaped(text(parameter, "/in")),
                parameter.get("schema").map(kind).unwrap_or_default(),
                inline(text(parameter, "/description")),
            )?;
        }
        html.push_str("</table>\n");
    }
    for (media, content) in fields(operation, "/requestBody/content") {
        let schema = content.get("schema").map(kind).unwrap_or_default();
        writeln!(html, "<p>Body: {} {schema}</p>", escaped(media))?;
    }
    html.push_str("<table>\n<tr><th>status</th><th>answer</th></tr>\n");
    for (status, answer) in fields(operation, "/responses") {
        if answer.get("$ref").is_some() {
            continue;
        }
        let schema = answer.pointer("/content/application~1json/schema").map(kind).unwrap_or_default();
        let description = inline(text(answer, "/description"));
        writeln!(html, "<tr><td>{}</td><td>{description} {schema}</td></tr>", escaped(status))?;
    }
    let refused: Vec<&str> = fields(operation, "/responses")
        .filter(|(_, answer)| answer.get("$ref").is_some())
        .map(|(status, _)| status.as_str())
        .collect();
    writeln!(
        html,
        "<tr><td>{}</td><td><a href=\"#codes\">a problem</a></td></tr>\n</table>\n</details>",
        escaped(&refused.join(" "))
    )
}

fn write_schema(html: &mut String, name: &str, schema: &Value) -> std::fmt::Result {
    let name = escaped(name);
    writeln!(
        html,
        "<details id=\"schema-{name}\">\n<summary><code>{name}</code> {}</summary>",
        inline(text(schema, "/description"))
    )?;
    if fields(schema, "/properties").next().is_some() {
        let required: Vec<&str> = list(schema, "/required").iter().filter_map(Value::as_str).collect();
        html.push_str("<table>\n<tr><th>field</th><th>type</th><th></th></tr>\n");
        for (field, schema) in fields(schema, "/properties") {
            writeln!(
                html,
                "<tr><td><code>{}</code>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(field),
                if required.contains(&field.as_str()) { " *" } else { "" },
                kind(schema),
                inline(text(schema, "/description")),
            )?;
        }
        html.push_str("</table>\n");
    } else {
        writeln!(html, "<p>{}</p>", kind(schema))?;
    }
    html.push_str("</details>\n");
    Ok(())
}

/// A table as the document has it: rows of cells between bars.
fn write_table(html: &mut String, table: &str) -> std::fmt::Result {
    html.push_str("<table>\n");
    for line in table.lines().filter(|line| !line.starts_with("|-")) {
        html.push_str("<tr>");
        for cell in line.trim_matches(['|', ' ']).split(" | ") {
            write!(html, "<td>{}</td>", inline(cell))?;
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    Ok(())
}

/// A schema in a few words, with a link to where it is told of.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.rsplit('/').next()) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", escaped(name));
    }
    for several in ["/anyOf", "/oneOf", "/allOf"] {
        let kinds: Vec<String> = list(schema, several).iter().map(kind).collect();
        if !kinds.is_empty() {
            return kinds.join(" or ");
        }
    }
    if let Some(only) = schema.get("const") {
        return format!("<code>{}</code>", escaped(&only.to_string()));
    }
    let words: Vec<String> =
        list(schema, "/enum").iter().map(|word| format!("<code>{}</code>", escaped(&word.to_string()))).collect();
    if !words.is_empty() {
        return words.join(" ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Some(_) | None => "anything".to_owned(),
    };
    match schema.get("items") {
        Some(items) => format!("{} of {}", escaped(&name), kind(items)),
        None => escaped(&name),
    }
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    fields(document, "/paths").flat_map(|(path, item)| {
        fields(item, "").map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn text<'d>(value: &'d Value, at: &str) -> &'d str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn list<'d>(value: &'d Value, at: &str) -> &'d [Value] {
    value.pointer(at).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn fields<'d>(value: &'d Value, at: &str) -> impl Iterator<Item = (&'d String, &'d Value)> {
    value.pointer(at).and_then(Value::as_object).into_iter().flatten()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Escaped text with what Markdown has of code and of weight.
fn inline(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for (position, part) in text.split('`').enumerate() {
        if position % 2 == 1 {
            html.push_str("<code>");
            html.push_str(&escaped(part));
            html.push_str("</code>");
            continue;
        }
        for (position, part) in part.split("**").enumerate() {
            let is_strong = position % 2 == 1;
            html.push_str(if is_strong { "<strong>" } else { "" });
            html.push_str(&escaped(part));
            html.push_str(if is_strong { "</strong>" } else { "" });
        }
    }
    html
}
