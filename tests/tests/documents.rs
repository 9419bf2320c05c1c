//! Every path that a Markdown file of this repository names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// What is generated, so that documents may name what is in it.
const GENERATED: [&str; 2] = ["target", "node_modules"];

/// The entries of a folder, without hidden and generated ones, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with('.') && !GENERATED.contains(&name) {
            entries.push(path);
        }
    }
    entries.sort();
    Ok(entries)
}

fn markdown_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(markdown_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The targets of links, without those that lead out of the repository or within the page.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains(':')).collect()
}

/// The words that are paths below one of the given names, as `guest/model` is below `guest`.
fn paths<'t>(text: &'t str, names: &BTreeSet<String>) -> Vec<&'t str> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "._-/*".contains(c);
    let words = text.split(|c: char| !is_of_path(c)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.split_once('/').is_some_and(|(first, _)| names.contains(first))).collect()
}

/// Whether a path is there; of one with a `*`, the folder before it.
fn exists(folder: &Path, path: &str) -> bool {
    let fixed =
        path.split_once('*').map_or(path, |(before, _)| before.rsplit_once('/').map_or("", |(parent, _)| parent));
    folder.join(fixed).exists()
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let names = entries(folder)?;
    Ok(names.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
}

#[test]
fn paths_in_markdown_exist() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let files = markdown_files(&root)?;
    ensure!(!files.is_empty(), "no Markdown file was found");
    let mut missing = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let folder = file.parent().context("a file is in a folder")?;
        let shown = file.strip_prefix(&root)?.display();
        let mut found: Vec<_> = links(&text).into_iter().filter(|link| !exists(folder, link)).collect();
        for path in paths(&text, &names(&root)?) {
            if !exists(&root, path) && !exists(folder, path) {
                found.push(path);
            }
        }
        for path in paths(&text, &names(folder)?) {
            if !exists(folder, path) && !exists(&root, path) {
                found.push(path);
            }
        }
        missing.extend(found.into_iter().map(|path| format!("{shown} names `{path}`, which is not there")));
    }
    missing.sort();
    missing.dedup();
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    Ok(())
}

#[test]
fn paths_and_links_are_found() {
    let names = BTreeSet::from(["guest".to_owned(), "wit".to_owned()]);
    let text =
        "See `guest/model/src/lib.rs`, wit/policy.wit. (guest/) https://x.example/guest/a service/endpoint guests/a";
    assert_eq!(paths(text, &names), ["guest/model/src/lib.rs", "wit/policy.wit", "guest/"]);
    let text = "[a](b/c.md#d) [e](https://f.example) [g](#h) [i](j.md \"title\") `[k](l)`";
    assert_eq!(links(text), ["b/c.md", "j.md", "l"]);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(exists(here, "tests/*.rs") && exists(here, "tests/") && exists(here, "*"));
    assert!(!exists(here, "nothing/*.rs") && !exists(here, "tests/nothing.rs"));
}
