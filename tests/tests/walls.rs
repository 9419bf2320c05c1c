//! The walls: who may import whom, and what the component may reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand};
use sha2::Digest as _;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

/// Every crate of the workspace, and the crates of the workspace that it may depend on, be it to build or to test
/// (DESIGN.md, section 1). A crate that is not here does not belong.
const MAY_IMPORT: [(&str, Option<&[&str]>); 12] = [
    ("portcullis-model", Some(&[])),
    ("portcullis-eval", Some(&["portcullis-model"])),
    ("portcullis-component", Some(&["portcullis-eval", "portcullis-model"])),
    ("portcullis-envoy", Some(&["portcullis-eval", "portcullis-model"])),
    ("portcullis-engine", Some(&["portcullis-model"])),
    ("portcullis-tower", Some(&["portcullis-engine", "portcullis-model"])),
    ("portcullis-authz", Some(&["portcullis-engine", "portcullis-model", "portcullis-tower"])),
    ("portcullis-store", Some(&["portcullis-model"])),
    ("portcullis-control", Some(&["portcullis-engine", "portcullis-model", "portcullis-store"])),
    (
        "portcullis",
        Some(&["portcullis-authz", "portcullis-control", "portcullis-engine", "portcullis-model", "portcullis-tower"]),
    ),
    ("portcullis-benches", ANYTHING),
    ("portcullis-tests", ANYTHING),
];
const ANYTHING: Option<&[&str]> = None;

/// What binds `wit/`, runs WebAssembly, routes HTTP or opens a database, and the one crate that may. Tests of another may, to
/// play another program.
const ALONE: [(&str, &str); 4] = [
    ("wit-bindgen", "portcullis-component"),
    ("wasmtime", "portcullis-engine"),
    ("axum", "portcullis"),
    ("rusqlite", "portcullis-store"),
];

const EXPORTS: [&str; 2] = ["portcullis:policy/gate@0.1.0", "portcullis:policy/policy@0.1.0"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Result<Metadata> {
    Ok(MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec()?)
}

/// The direct dependencies of every member for any target: members of the workspace of any kind, others but for tests.
fn imports(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let table: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let names = metadata.workspace_packages().into_iter().map(|package| {
        let counts = |import: &&Dependency| {
            import.kind != DependencyKind::Development || table.contains_key(import.name.as_str())
        };
        let imports = package.dependencies.iter().filter(counts).map(|dependency| dependency.name.clone());
        (package.name.to_string(), imports.collect())
    });
    names.collect()
}

/// The imports of members that the table does not have.
fn forbidden(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let table: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let mut forbidden = Vec::new();
    for (member, imports) in imports {
        let Some(may) = table.get(member.as_str()) else {
            forbidden.push(format!("`{member}` is not in the table: DESIGN.md, section 1"));
            continue;
        };
        let members = imports.iter().filter(|import| table.contains_key(import.as_str()));
        for import in members.filter(|import| may.is_some_and(|may| !may.contains(&import.as_str()))) {
            forbidden.push(format!("`{member}` must not import `{import}`"));
        }
        for (library, only) in ALONE {
            if imports.contains(library) && member != only {
                forbidden.push(format!("`{member}` must not import `{library}`, only `{only}` may"));
            }
        }
    }
    forbidden
}

#[test]
fn crates_import_only_what_they_may() -> Result<()> {
    let imports = imports(&metadata()?);
    ensure!(imports.len() >= 9, "only {} members were found", imports.len());
    let forbidden = forbidden(&imports);
    ensure!(forbidden.is_empty(), "{}", forbidden.join("\n"));
    for (library, only) in ALONE {
        ensure!(imports.get(only).is_some_and(|imports| imports.contains(library)), "`{only}` imports `{library}`");
    }
    Ok(())
}

#[test]
fn a_forbidden_import_is_named() {
    for (member, import, named) in [
        ("portcullis-engine", "portcullis-eval", "`portcullis-engine` must not import `portcullis-eval`"),
        ("portcullis", "portcullis-eval", "`portcullis` must not import `portcullis-eval`"),
        ("portcullis", "portcullis-store", "`portcullis` must not import `portcullis-store`"),
        ("portcullis-model", "portcullis-eval", "`portcullis-model` must not import `portcullis-eval`"),
        ("portcullis", "wasmtime", "`portcullis` must not import `wasmtime`, only `portcullis-engine` may"),
        ("portcullis-new", "serde", "`portcullis-new` is not in the table: DESIGN.md, section 1"),
    ] {
        let imports = BTreeMap::from([(member.to_owned(), BTreeSet::from([import.to_owned()]))]);
        assert_eq!(forbidden(&imports), [named]);
    }
    let allowed = BTreeMap::from([("portcullis-eval".to_owned(), BTreeSet::from(["portcullis-model".to_owned()]))]);
    assert!(forbidden(&allowed).is_empty());
}

/// The whole table taken together: no way leads from a host crate to the decision.
#[test]
fn the_host_cannot_decide_outside_the_sandbox() {
    let table: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    for host in [
        "portcullis-engine",
        "portcullis-tower",
        "portcullis-authz",
        "portcullis-store",
        "portcullis-control",
        "portcullis",
    ] {
        let (mut reached, mut next) = (BTreeSet::new(), vec![host]);
        while let Some(member) = next.pop() {
            if reached.insert(member) {
                next.extend(table.get(member).copied().flatten().unwrap_or_default());
            }
        }
        assert!(!reached.contains("portcullis-eval"), "{host} reaches {reached:?}");
    }
}

/// What a component declares: imports of its own, imports of the core modules within, and exports.
#[derive(Default)]
struct Declared {
    imports: Vec<String>,
    exports: BTreeSet<String>,
}

/// Reads a component. The inner components that `wit-component` wraps exports in have imports, which the outer one must
/// satisfy with what it has; so those do not lead out.
#[expect(clippy::wildcard_enum_match_arm, reason = "no other section declares anything of the kind")]
fn declared(component: &[u8]) -> Result<Declared> {
    Validator::new_with_features(WasmFeatures::all()).validate_all(component)?;
    let mut declared = Declared::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    declared.imports.push(format!("{}/{}", import.module, import.name));
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    declared.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    declared.exports.insert(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(declared)
}

#[test]
fn the_component_imports_nothing_and_exports_the_contract() -> Result<()> {
    let declared = declared(portcullis_engine::COMPONENT)?;
    ensure!(declared.imports.is_empty(), "the component imports {:?}", declared.imports);
    ensure!(declared.exports == EXPORTS.into_iter().map(ToOwned::to_owned).collect(), "{:?}", declared.exports);
    Ok(())
}

#[test]
fn an_import_is_found() -> Result<()> {
    // One type without parameters and results, and a function of that type from `env`.
    let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0b\x01\x03env\x03now\0\0";
    ensure!(declared(module)?.imports == ["env/now"]);
    Ok(())
}

/// What the module for Envoy may ask of the proxy: the calls of the proxy-wasm ABI 0.2.1, and of WASI what Envoy gives. A proxy
/// that lacks one of them does not load the module.
const MODULE_IMPORTS: [&str; 6] = [
    "wasi_snapshot_preview1/clock_time_get",
    "wasi_snapshot_preview1/environ_get",
    "wasi_snapshot_preview1/environ_sizes_get",
    "wasi_snapshot_preview1/fd_write",
    "wasi_snapshot_preview1/proc_exit",
    "wasi_snapshot_preview1/random_get",
];

#[test]
fn the_module_imports_the_proxy_and_the_wasi_calls_that_envoy_gives() -> Result<()> {
    let module = std::fs::read(portcullis_tests::module::filter()?)?;
    // What Envoy's V8 has: wide arithmetic is not among it.
    let features = WasmFeatures::WASM2 | WasmFeatures::SIMD;
    Validator::new_with_features(features).validate_all(&module)?;
    let imports = declared(&module)?.imports;
    let strange: Vec<_> = imports
        .iter()
        .filter(|import| !import.starts_with("env/proxy_") && !MODULE_IMPORTS.contains(&import.as_str()))
        .collect();
    ensure!(strange.is_empty(), "the module imports {strange:?}");
    ensure!(imports.iter().any(|import| import == "env/proxy_get_header_map_pairs"), "{imports:?}");
    Ok(())
}

#[test]
fn the_module_knows_its_digest_once_it_is_handed_out() -> Result<()> {
    let mut module = std::fs::read(portcullis_tests::module::filter()?)?;
    let before = sha2::Sha256::digest(&module);
    ensure!(portcullis_model::module::fill(&mut module)?.as_slice() == before.as_slice());
    Ok(())
}
