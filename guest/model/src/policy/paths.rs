//! Path tables: from a path to the most specific of many paths, prefixes and templates, read in place.
//!
//! A trie of decoded segments. A node's literal children are compared one by one where they are few, else found through one
//! hash table for the whole trie, so the cost of a step does not grow with the number of paths. Where several entries match,
//! the order is: segment by segment a literal before a `{parameter}`; at the end a whole path before a prefix; a longer prefix
//! before a shorter.
//!
//! ```text
//! u32 number of nodes, u32 of edges, u32 of buckets, then
//! per node    u32 parameter child or all ones, u32 targets of whole paths, u32 targets of prefixes, u32 first edge, u32 edges
//! per edge    u32 segment (text), u32 child; the edges of a node stand side by side
//! per bucket  64 bytes, over the keyed hash of parent and segment, for nodes with more than 4 edges
//! target      u32 record, u8 methods, u8 position of the application's segment or 255, 2 bytes zero
//! ```

use std::collections::BTreeMap;

use super::Unreadable;
use super::build::draft::Draft;
use super::format::{Fragment, NONE, word};
use super::index::{self, BUCKET_BYTES, IndexFull};
use crate::method::{Method, Methods};
use crate::sweep;

/// The most segments of a path.
pub const MAX_SEGMENTS: usize = 64;

const NODE_BYTES: usize = 20;
const EDGE_BYTES: usize = 8;
/// The most children of a node that are compared one by one.
const FEW_EDGES: usize = 4;
const TARGET_BYTES: usize = 8;
/// The most targets of a pattern: no two of them share a method.
const MAX_TARGETS: usize = Method::ALL.len();
const NO_APPLICATION: u8 = u8::MAX;

/// A path table in a policy.
#[derive(Clone, Copy)]
pub(crate) struct PathTable<'p> {
    fragment: &'p Fragment,
    nodes: &'p [[u8; NODE_BYTES]],
    edges: &'p [[u8; EDGE_BYTES]],
    buckets: &'p [u8],
}

/// A decoded path without its first slash, and where its segments end. The root is the empty text.
#[derive(Clone, Copy)]
pub struct Segments<'a> {
    path: &'a [u8],
    /// Bit n: byte n is a slash. For the first bytes alone; those behind them are looked through.
    slashes: u64,
}

impl<'a> Segments<'a> {
    /// The segments of a path.
    #[inline(always)]
    #[must_use]
    pub fn of(path: &'a [u8]) -> Segments<'a> {
        let [slashes] = sweep::masks(path, |lanes| [sweep::equal(lanes, b'/')]);
        Segments { path, slashes }
    }

    /// The segment that begins at a place, and where the next begins, if there is one.
    #[inline(always)]
    fn at(&self, start: usize) -> (&'a [u8], Option<usize>) {
        let ahead = if start < sweep::BLOCK { self.slashes >> start } else { 0 };
        let end = if ahead == 0 {
            let looked_at = start.max(sweep::BLOCK);
            let rest = self.path.get(looked_at..).unwrap_or_default();
            rest.iter().position(|byte| *byte == b'/').map(|at| looked_at + at)
        } else {
            Some(start + ahead.trailing_zeros() as usize)
        };
        let segment = self.path.get(start..end.unwrap_or(self.path.len())).unwrap_or_default();
        (segment, end.map(|end| end + 1))
    }
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The record's number in its section.
    pub(crate) record: u32,
    /// The methods for which the path counts.
    pub methods: Methods,
    /// Which segment of the path names the application, counted from 0.
    pub application_segment: Option<u8>,
}

impl<'p> PathTable<'p> {
    pub(crate) fn open(fragment: &'p Fragment, offset: u32) -> Result<Self, Unreadable> {
        let bytes = fragment.at(offset)?;
        let size = |at: usize, record: usize| (word(bytes, at)? as usize).checked_mul(record).ok_or(Unreadable);
        let rest = bytes.get(12..).ok_or(Unreadable)?;
        let (nodes, rest) = rest.split_at_checked(size(0, NODE_BYTES)?).ok_or(Unreadable)?;
        let (edges, rest) = rest.split_at_checked(size(4, EDGE_BYTES)?).ok_or(Unreadable)?;
        let buckets = rest.get(..size(8, BUCKET_BYTES)?).ok_or(Unreadable)?;
        Ok(PathTable { fragment, nodes: nodes.as_chunks().0, edges: edges.as_chunks().0, buckets })
    }

    /// The most specific target that `accept` takes. Targets are offered in order of their precedence.
    pub(crate) fn find(
        &self,
        path: &Segments<'_>,
        accept: impl FnMut(&Target) -> bool,
    ) -> Result<Option<Target>, Unreadable> {
        let start = (!path.path.is_empty()).then_some(0);
        // INVARIANT (a-tree): every node has one parent, so a search comes to each node once at most. In a damaged table
        // nodes may be shared and the ways through it without number.
        let mut search = Search { path, visits_left: self.nodes.len(), accept };
        self.descend(0, start, MAX_SEGMENTS, &mut search)
    }

    fn descend(
        &self,
        mut node: u32,
        mut start: Option<usize>,
        mut depth: usize,
        search: &mut Search<'_, impl FnMut(&Target) -> bool>,
    ) -> Result<Option<Target>, Unreadable> {
        loop {
            let record = self.nodes.get(node as usize).ok_or(Unreadable)?;
            search.visits_left = search.visits_left.checked_sub(1).ok_or(Unreadable)?;
            let prefixes = word(record, 8)?;
            let Some(at) = start else {
                let whole = self.accepted(word(record, 4)?, search)?;
                return if whole.is_some() { Ok(whole) } else { self.accepted(prefixes, search) };
            };
            // A path with more segments than a table can hold goes no deeper: the trie ends here.
            let Some(deeper) = depth.checked_sub(1) else { return self.accepted(prefixes, search) };
            let (segment, next) = search.path.at(at);
            let literal = self.literal(node, record, segment)?;
            // An empty segment names nothing, so it fills no parameter.
            let parameter = Some(word(record, 0)?).filter(|child| *child != NONE && !segment.is_empty());
            let (first, second) = if literal.is_some() { (literal, parameter) } else { (parameter, None) };
            let Some(first) = first else { return self.accepted(prefixes, search) };
            if second.is_none() && prefixes == 0 {
                // The only way on, and nothing to come back for.
                (node, start, depth) = (first, next, deeper);
                continue;
            }
            for child in [Some(first), second].into_iter().flatten() {
                let found = self.descend(child, next, deeper, search)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            return self.accepted(prefixes, search);
        }
    }

    #[inline(always)]
    fn literal(&self, node: u32, record: &[u8; NODE_BYTES], segment: &[u8]) -> Result<Option<u32>, Unreadable> {
        let (first, count) = (word(record, 12)? as usize, word(record, 16)? as usize);
        let edges = first.checked_add(count).and_then(|end| self.edges.get(first..end)).ok_or(Unreadable)?;
        if count > FEW_EDGES {
            return self.one_of_many(node, edges, first, segment);
        }
        for edge in edges {
            if sweep::same(self.fragment.raw_text(word(edge, 0)?)?, segment) {
                return word(edge, 4).map(Some);
            }
        }
        Ok(None)
    }

    fn one_of_many(
        &self,
        node: u32,
        edges: &[[u8; EDGE_BYTES]],
        first: usize,
        segment: &[u8],
    ) -> Result<Option<u32>, Unreadable> {
        for number in index::probe(self.buckets, index::name_hash(self.fragment.keys, segment, node)) {
            // What is found may be an edge of another node.
            let Some(edge) = (number? as usize).checked_sub(first).and_then(|at| edges.get(at)) else { continue };
            if sweep::same(self.fragment.raw_text(word(edge, 0)?)?, segment) {
                return word(edge, 4).map(Some);
            }
        }
        Ok(None)
    }

    #[inline(always)]
    fn accepted(
        &self,
        targets: u32,
        search: &mut Search<'_, impl FnMut(&Target) -> bool>,
    ) -> Result<Option<Target>, Unreadable> {
        let targets = self.fragment.list::<TARGET_BYTES>(targets)?;
        if targets.len() > MAX_TARGETS {
            return Err(Unreadable);
        }
        Ok(targets.iter().map(Target::unpack).find(|target| (search.accept)(target)))
    }
}

/// One search through a table.
struct Search<'a, A> {
    path: &'a Segments<'a>,
    visits_left: usize,
    accept: A,
}

impl Target {
    fn unpack([a, b, c, d, methods, application, _, _]: &[u8; TARGET_BYTES]) -> Target {
        Target {
            record: u32::from_le_bytes([*a, *b, *c, *d]),
            methods: Methods::from_bits(*methods),
            application_segment: (*application != NO_APPLICATION).then_some(*application),
        }
    }

    fn pack(&self) -> [u8; TARGET_BYTES] {
        let [a, b, c, d] = self.record.to_le_bytes();
        [a, b, c, d, self.methods.bits(), self.application_segment.unwrap_or(NO_APPLICATION), 0, 0]
    }
}

/// A path table being made.
pub(crate) struct PathTableBuilder {
    nodes: Vec<Node>,
    edges: BTreeMap<(u32, String), u32>,
}

#[derive(Default)]
struct Node {
    parameter: Option<u32>,
    whole: Vec<Target>,
    prefix: Vec<Target>,
}

/// How a pattern matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    Whole,
    Prefix,
}

impl PathTableBuilder {
    pub(crate) fn new() -> Self {
        PathTableBuilder { nodes: vec![Node::default()], edges: BTreeMap::new() }
    }

    /// Adds a parsed pattern.
    ///
    /// # Errors
    /// The record that has the same pattern for one of the same methods already.
    pub(crate) fn add(&mut self, pattern: &Pattern, how: Match, record: u32, methods: Methods) -> Result<(), Conflict> {
        let mut node = 0;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(text) => {
                    let next = u32::try_from(self.nodes.len()).unwrap_or(NONE);
                    let child = *self.edges.entry((node, text.clone())).or_insert(next);
                    self.ensure(child);
                    child
                }
                Segment::Parameter => {
                    let next = u32::try_from(self.nodes.len()).unwrap_or(NONE);
                    let parameter = self.nodes.get_mut(node as usize).map(|node| *node.parameter.get_or_insert(next));
                    let child = parameter.unwrap_or(NONE);
                    self.ensure(child);
                    child
                }
            };
        }
        let target = Target { record, methods, application_segment: pattern.application_segment };
        if let Some(node) = self.nodes.get_mut(node as usize) {
            let targets = match how {
                Match::Whole => &mut node.whole,
                Match::Prefix => &mut node.prefix,
            };
            if let Some(other) = targets.iter().find(|other| other.methods.overlaps(methods)) {
                return Err(Conflict { record: other.record });
            }
            targets.push(target);
        }
        Ok(())
    }

    fn ensure(&mut self, node: u32) {
        if node as usize == self.nodes.len() {
            self.nodes.push(Node::default());
        }
    }

    /// Writes the table into the arena and gives its offset.
    pub(crate) fn write(&self, draft: &mut Draft) -> Result<u32, IndexFull> {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        // For each node its edges: the first, and how many.
        let mut of_node = vec![(0u32, 0u32); self.nodes.len()];
        let mut edges = Vec::new();
        for (number, ((parent, segment), child)) in (0..).zip(&self.edges) {
            edges.extend_from_slice(&draft.text(segment).to_le_bytes());
            edges.extend_from_slice(&child.to_le_bytes());
            if let Some((first, edges)) = of_node.get_mut(*parent as usize) {
                if *edges == 0 {
                    *first = number;
                }
                *edges += 1;
            }
        }
        let mut nodes = Vec::new();
        for (node, (first, edges)) in self.nodes.iter().zip(&of_node) {
            nodes.extend_from_slice(&node.parameter.unwrap_or(NONE).to_le_bytes());
            for targets in [&node.whole, &node.prefix] {
                nodes.extend_from_slice(&draft.list(targets.iter().map(Target::pack)).to_le_bytes());
            }
            nodes.extend_from_slice(&first.to_le_bytes());
            nodes.extend_from_slice(&edges.to_le_bytes());
        }
        let is_of_many =
            |parent: u32| of_node.get(parent as usize).is_some_and(|(_, edges)| *edges as usize > FEW_EDGES);
        let of_many = (0..).zip(self.edges.keys()).filter(|(_, (parent, _))| is_of_many(*parent));
        let hashes = of_many
            .map(|(number, (parent, segment))| (number, index::name_hash(draft.keys, segment.as_bytes(), *parent)));
        let buckets = index::build(&hashes.collect::<Vec<_>>())?;
        let mut table = Vec::new();
        for number in [count(self.nodes.len()), count(self.edges.len()), count(buckets.len() / BUCKET_BYTES)] {
            table.extend_from_slice(&number.to_le_bytes());
        }
        table.extend([nodes, edges, buckets].concat());
        Ok(draft.blob(&table))
    }
}

/// Two records have the same pattern for the same method.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) record: u32,
}

/// A path pattern, parsed.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
    application_segment: Option<u8>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Segment {
    Literal(String),
    Parameter,
}

impl Pattern {
    /// Reads `/a/{b}/c`. Literals are written decoded; `{application}` is the application's place.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let rest = text.strip_prefix('/').ok_or_else(|| format!("the path `{text}` does not begin with `/`"))?;
        let mut pattern = Pattern { segments: Vec::new(), application_segment: None };
        if rest.is_empty() {
            return Ok(pattern);
        }
        for (position, segment) in rest.split('/').enumerate() {
            if position >= MAX_SEGMENTS {
                return Err(format!("the path `{text}` has more than {MAX_SEGMENTS} segments"));
            }
            if matches!(segment, "" | "." | "..") {
                return Err(format!("the path `{text}` has an empty or dot segment, which no accepted request has"));
            }
            if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                if name == "application" {
                    if pattern.application_segment.is_some() {
                        return Err(format!("the path `{text}` names two applications"));
                    }
                    pattern.application_segment = u8::try_from(position).ok();
                }
                pattern.segments.push(Segment::Parameter);
            } else if let Some(odd) = segment.chars().find(|c| c.is_control() || "{}*?#;\\%".contains(*c)) {
                return Err(format!(
                    "the path `{text}` has `{}`: write literals decoded, `{{name}}` for a whole segment",
                    odd.escape_default()
                ));
            } else {
                pattern.segments.push(Segment::Literal(segment.to_owned()));
            }
        }
        Ok(pattern)
    }

    pub(crate) fn names_application(&self) -> bool {
        self.application_segment.is_some()
    }

    /// Whether every path that this pattern matches lies under `prefix`.
    pub(crate) fn is_under(&self, prefix: &Pattern) -> bool {
        self.segments.len() >= prefix.segments.len()
            && self.segments.iter().zip(&prefix.segments).all(|(mine, theirs)| match (mine, theirs) {
                (Segment::Literal(mine), Segment::Literal(theirs)) => mine == theirs,
                (_, Segment::Parameter) => true,
                (Segment::Parameter, Segment::Literal(_)) => false,
            })
    }

    pub(crate) fn has_parameters(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Parameter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: (u64, u64) = (3, 5);

    fn write(table: &PathTableBuilder) -> (Fragment, u32) {
        let mut draft = Draft::arena_at(4, KEYS);
        let offset = table.write(&mut draft).unwrap();
        (draft.into_fragment(), offset)
    }

    /// A table of patterns, each the target of its position. Those that end in `*` are prefixes.
    fn table(patterns: &[&str]) -> (Fragment, u32) {
        let mut table = PathTableBuilder::new();
        for (record, text) in (0..).zip(patterns) {
            let (text, how) = text.strip_suffix('*').map_or((*text, Match::Whole), |text| (text, Match::Prefix));
            let text = if text.len() > 1 { text.trim_end_matches('/') } else { text };
            table.add(&Pattern::parse(text).unwrap(), how, record, Methods::ALL).unwrap();
        }
        write(&table)
    }

    fn find(table: &(Fragment, u32), path: &str) -> Option<u32> {
        let target =
            PathTable::open(&table.0, table.1).unwrap().find(&Segments::of(path.as_bytes()), |_| true).unwrap();
        target.map(|target| target.record)
    }

    #[test]
    fn a_literal_goes_before_a_parameter_and_a_whole_path_before_a_prefix() {
        let patterns = ["/*", "/a", "/a/*", "/a/b", "/{x}/b", "/{x}/*", "/a/{y}/c", "/{x}/{y}/{z}"];
        let table = table(&patterns);
        for (path, expected) in [
            ("", "/*"),
            ("b", "/{x}/*"),
            ("a", "/a"),
            ("a/b", "/a/b"),
            ("a/c", "/a/*"),
            ("z/b", "/{x}/b"),
            ("z/c", "/{x}/*"),
            ("a/b/c", "/a/{y}/c"),
            // The literal's prefix goes before anything behind the parameter.
            ("a/b/d", "/a/*"),
            ("z/b/d", "/{x}/{y}/{z}"),
            ("z/b/d/e", "/{x}/*"),
        ] {
            assert_eq!(find(&table, path).map(|found| patterns[found as usize]), Some(expected), "{path}");
        }
    }

    #[test]
    fn segments_are_compared_as_wholes_and_by_case() {
        let table = table(&["/a/*", "/caf\u{e9} 1"]);
        for (path, found) in [("a", Some(0)), ("a/b", Some(0)), ("ab", None), ("A", None), ("", None)] {
            assert_eq!(find(&table, path), found, "{path}");
        }
        assert_eq!(find(&table, "caf\u{e9} 1"), Some(1));
    }

    #[test]
    fn a_parameter_takes_any_one_segment_but_not_none() {
        let table = table(&["/a/{x}"]);
        for (path, found) in [("a/b", Some(0)), ("a/*", Some(0)), ("a/{x}", Some(0)), ("a/", None), ("a", None)] {
            assert_eq!(find(&table, path), found, "{path}");
        }
    }

    #[test]
    fn the_application_is_told_by_its_position() {
        let mut table = PathTableBuilder::new();
        let get = Methods::NONE.with(Method::Get);
        table.add(&Pattern::parse("/x/{application}/y").unwrap(), Match::Whole, 0, get).unwrap();
        let post = Methods::NONE.with(Method::Post);
        table.add(&Pattern::parse("/x/{id}/y").unwrap(), Match::Whole, 1, post).unwrap();
        let (fragment, offset) = write(&table);
        let table = PathTable::open(&fragment, offset).unwrap();
        for (method, record, application_segment) in [(Method::Get, 0, Some(1)), (Method::Post, 1, None)] {
            let found = table.find(&Segments::of(b"x/a/y"), |target| target.methods.contains(method)).unwrap().unwrap();
            assert_eq!((found.record, found.application_segment), (record, application_segment));
        }
        assert_eq!(table.find(&Segments::of(b"x/a/y"), |target| target.methods.contains(Method::Put)), Ok(None));
    }

    #[test]
    fn the_same_pattern_for_the_same_method_is_a_conflict() {
        let mut table = PathTableBuilder::new();
        let mut add = |text: &str, how, record, methods| {
            table.add(&Pattern::parse(text).unwrap(), how, record, methods).map_err(|conflict| conflict.record)
        };
        let get = Methods::NONE.with(Method::Get);
        assert_eq!(add("/a/{x}", Match::Whole, 7, get), Ok(()));
        assert_eq!(add("/a/{y}", Match::Whole, 8, Methods::ALL), Err(7));
        assert_eq!(add("/a/{y}", Match::Whole, 8, Methods::NONE.with(Method::Put)), Ok(()));
        assert_eq!(add("/a/{x}", Match::Prefix, 8, get), Ok(()));
        assert_eq!(add("/a/x", Match::Whole, 8, get), Ok(()));
    }

    #[test]
    fn a_pattern_has_at_most_64_segments_and_no_odd_ones() {
        let path = |segments: usize| "/a".repeat(segments);
        assert!(Pattern::parse(&path(MAX_SEGMENTS)).is_ok());
        assert!(Pattern::parse(&path(MAX_SEGMENTS + 1)).unwrap_err().contains("more than 64 segments"));
        for bad in
            ["", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/a{x}", "/{x", "/a*", "/a%20b", "/a?b", "/a;b", "/a\\b"]
        {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Pattern::parse("/{application}/{application}").unwrap_err().contains("two applications"));
    }

    #[test]
    fn a_path_of_more_segments_than_a_table_can_hold_finds_prefixes_alone() {
        let deepest = format!("{}/*", "/a".repeat(MAX_SEGMENTS));
        let table = table(&[&deepest]);
        let path = |segments: usize| "/a".repeat(segments)[1..].to_owned();
        for (segments, found) in [(63, None), (64, Some(0)), (65, Some(0)), (1000, Some(0))] {
            assert_eq!(find(&table, &path(segments)), found, "{segments}");
        }
    }

    #[test]
    fn a_table_whose_nodes_are_shared_is_unreadable_and_not_searched_forever() {
        // Two ways from each node to the next are 2^64 ways to the end.
        let mut table = PathTableBuilder::new();
        table.nodes = (1..).map(|next| Node { parameter: Some(next), ..Node::default() }).take(64).collect();
        table.nodes.push(Node::default());
        table.edges = (0..64).map(|node| ((node, "a".to_owned()), node + 1)).collect();
        let (fragment, offset) = write(&table);
        let path = ["a"; 64].join("/");
        assert_eq!(
            PathTable::open(&fragment, offset).unwrap().find(&Segments::of(path.as_bytes()), |_| false),
            Err(Unreadable)
        );

        table.nodes = vec![Node { parameter: Some(0), ..Node::default() }];
        table.edges = BTreeMap::from([((0, "a".to_owned()), 0)]);
        let (fragment, offset) = write(&table);
        assert_eq!(
            PathTable::open(&fragment, offset).unwrap().find(&Segments::of(path.as_bytes()), |_| false),
            Err(Unreadable)
        );
    }

    #[test]
    fn a_node_with_more_targets_than_there_are_methods_is_unreadable() {
        let target = Target { record: 0, methods: Methods::NONE, application_segment: None };
        for (count, found) in [(MAX_TARGETS, Ok(None)), (MAX_TARGETS + 1, Err(Unreadable))] {
            let mut table = PathTableBuilder::new();
            table.nodes = vec![Node { whole: vec![target; count], ..Node::default() }];
            let (fragment, offset) = write(&table);
            assert_eq!(PathTable::open(&fragment, offset).unwrap().find(&Segments::of(b""), |_| false), found);
        }
    }
}
