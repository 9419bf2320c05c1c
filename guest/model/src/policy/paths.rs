//! Path tables: from a path to the most specific of many paths, prefixes and templates, read in place.
//!
//! A trie of decoded segments. A node's literal children are found through one hash table for the whole trie, so the cost
//! of a step does not grow with the number of paths. Where several entries match, the order is: segment by segment a
//! literal before a `{parameter}`; at the end a whole path before a prefix; a longer prefix before a shorter.
//!
//! ```text
//! u32 number of nodes, u32 of edges, u32 of buckets, then
//! per node    u32 parameter child or all ones, u32 targets of whole paths, u32 targets of prefixes
//! per edge    u32 parent, u32 segment (text), u32 child
//! per bucket  64 bytes, over the keyed hash of parent and segment
//! target      u32 record, u8 methods, u8 position of the application's segment or 255, 2 bytes zero
//! ```

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::Unreadable;
use super::build::Arena;
use super::format::{Fragment, NONE, word};
use super::index::{self, BUCKET_BYTES, IndexFull};
use crate::method::Methods;

/// The most segments of a path.
pub const MAX_SEGMENTS: usize = 64;

const NODE_BYTES: usize = 12;
const EDGE_BYTES: usize = 12;
const TARGET_BYTES: usize = 8;
const NO_APPLICATION: u8 = u8::MAX;

/// A path table in a policy.
#[derive(Clone, Copy)]
pub(crate) struct PathTable<'p> {
    fragment: &'p Fragment,
    nodes: &'p [[u8; NODE_BYTES]],
    edges: &'p [[u8; EDGE_BYTES]],
    buckets: &'p [u8],
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
    ///
    /// `path` is a decoded path without its first slash; the root is the empty text.
    pub(crate) fn find(
        &self,
        path: &str,
        mut accept: impl FnMut(&Target) -> bool,
    ) -> Result<Option<Target>, Unreadable> {
        let rest = (!path.is_empty()).then_some(path);
        self.descend(0, rest, MAX_SEGMENTS, &mut accept)
    }

    fn descend(
        &self,
        node: u32,
        rest: Option<&str>,
        depth: usize,
        accept: &mut impl FnMut(&Target) -> bool,
    ) -> Result<Option<Target>, Unreadable> {
        let record = self.nodes.get(node as usize).ok_or(Unreadable)?;
        if let Some(rest) = rest {
            // A path with more segments than a table can hold goes no deeper: the trie ends before.
            let depth = depth.checked_sub(1).ok_or(Unreadable)?;
            let (segment, rest) = rest.split_once('/').map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
            if let Some(child) = self.literal(node, segment)?
                && let Some(found) = self.descend(child, rest, depth, accept)?
            {
                return Ok(Some(found));
            }
            let parameter = word(record, 0)?;
            // An empty segment names nothing, so it fills no parameter.
            if parameter != NONE
                && !segment.is_empty()
                && let Some(found) = self.descend(parameter, rest, depth, accept)?
            {
                return Ok(Some(found));
            }
        } else if let Some(found) = self.accepted(word(record, 4)?, accept)? {
            return Ok(Some(found));
        }
        self.accepted(word(record, 8)?, accept)
    }

    fn literal(&self, node: u32, segment: &str) -> Result<Option<u32>, Unreadable> {
        for number in index::probe(self.buckets, edge_hash(self.fragment.keys, node, segment)) {
            let edge = self.edges.get(number? as usize).ok_or(Unreadable)?;
            if word(edge, 0)? == node && self.fragment.text(word(edge, 4)?)? == segment {
                return word(edge, 8).map(Some);
            }
        }
        Ok(None)
    }

    fn accepted(&self, targets: u32, accept: &mut impl FnMut(&Target) -> bool) -> Result<Option<Target>, Unreadable> {
        let targets = self.fragment.list::<TARGET_BYTES>(targets)?;
        Ok(targets.iter().map(Target::unpack).find(accept))
    }
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

fn edge_hash(keys: (u64, u64), node: u32, segment: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(keys.0, keys.1);
    hasher.write(&node.to_le_bytes());
    hasher.write(segment.as_bytes());
    hasher.finish()
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
#[derive(Clone, Copy, PartialEq, Eq)]
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
    pub(crate) fn write(&self, arena: &mut Arena, keys: (u64, u64)) -> Result<u32, IndexFull> {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.extend_from_slice(&node.parameter.unwrap_or(NONE).to_le_bytes());
            for targets in [&node.whole, &node.prefix] {
                nodes.extend_from_slice(&arena.list(targets.iter().map(Target::pack)).to_le_bytes());
            }
        }
        let mut edges = Vec::new();
        let mut hashes = Vec::new();
        for ((parent, segment), child) in &self.edges {
            for number in [*parent, arena.text(segment), *child] {
                edges.extend_from_slice(&number.to_le_bytes());
            }
            hashes.push(edge_hash(keys, *parent, segment));
        }
        let buckets = index::build(&hashes)?;
        let mut table = Vec::new();
        for number in [count(self.nodes.len()), count(self.edges.len()), count(buckets.len() / BUCKET_BYTES)] {
            table.extend_from_slice(&number.to_le_bytes());
        }
        table.extend([nodes, edges, buckets].concat());
        Ok(arena.blob(&table))
    }
}

/// Two records have the same pattern for the same method.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) record: u32,
}

/// A path pattern, parsed.
#[derive(Debug)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
    application_segment: Option<u8>,
}

#[derive(Debug)]
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
