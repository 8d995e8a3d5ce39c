//! The modules of a crate as a graph of files: who uses whom, how long files and functions are.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A module path from the root of its crate.
type ModulePath = Vec<String>;

pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) files: Vec<SourceFile>,
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first_line: usize,
    pub(crate) lines: usize,
}

#[derive(Default)]
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    module: ModulePath,
    /// Lines that are no test code.
    pub(crate) lines: usize,
    pub(crate) functions: Vec<Function>,
    /// Declared structs, enums, traits and type aliases, with their lines.
    pub(crate) types: Vec<(String, usize)>,
    pub(crate) allows_unsafe: bool,
    /// Names that `use` brings into the module, and what they stand for.
    imports: BTreeMap<String, ModulePath>,
    /// Paths that the code uses, from the root of the crate. Re-exports are not among them.
    uses: Vec<ModulePath>,
}

impl Crate {
    /// Reads `src` of a package; `main.rs` and files of tests are left out.
    pub(crate) fn read(package: &Path) -> Self {
        let source = package.join("src");
        let is_test = |path: &Path| {
            path.iter()
                .any(|part| part == "tests" || part == "tests.rs" || part == "main.rs")
        };
        let files = super::files(&source, "rs")
            .into_iter()
            .filter(|path| !is_test(path.strip_prefix(&source).unwrap()))
            .map(|path| SourceFile::read(&source, path))
            .collect();
        let name = match package.parent() {
            Some(parent) if parent.ends_with("crates") => {
                package.file_name().unwrap().to_str().unwrap().to_owned()
            }
            _ => "quire".to_owned(),
        };
        Self { name, files }
    }
}

impl SourceFile {
    fn read(source: &Path, path: PathBuf) -> Self {
        let relative = path.strip_prefix(source).unwrap().with_extension("");
        let module = relative
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .filter(|part| part != "mod" && part != "lib")
            .collect();
        let text = fs::read_to_string(&path).unwrap();
        Self::parse(&text, module, path)
    }

    fn parse(text: &str, module: ModulePath, path: PathBuf) -> Self {
        let syntax =
            syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut reader = Reader {
            file: Self {
                path,
                lines: text.lines().count(),
                module: module.clone(),
                ..Self::default()
            },
            module,
        };
        reader.visit_file(&syntax);
        reader.file
    }

    /// The path for a message, from the root of the workspace.
    pub(crate) fn shown(&self) -> String {
        let root = super::root();
        self.path
            .strip_prefix(root)
            .unwrap_or(&self.path)
            .display()
            .to_string()
    }
}

struct Reader {
    file: SourceFile,
    /// The module that is being read: the file's, or one written inside it.
    module: ModulePath,
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|name| name == "test")
    })
}

fn lines_of(item: &impl syn::spanned::Spanned) -> (usize, usize) {
    let span = item.span();
    (span.start().line, span.end().line + 1 - span.start().line)
}

impl Reader {
    /// A path from the root of the crate if it starts in this crate by `crate`, `super` or `self`.
    fn resolve(&self, segments: &[String]) -> Option<ModulePath> {
        let first = segments.first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        let mut rest = &segments[1..];
        if first == "super" {
            base.pop();
            while rest.first().is_some_and(|segment| segment == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn read_use(&mut self, tree: &UseTree, prefix: &mut Vec<String>, is_reexport: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.read_use(&path.tree, prefix, is_reexport);
                prefix.pop();
            }
            UseTree::Group(group) => {
                for item in &group.items {
                    self.read_use(item, prefix, is_reexport);
                }
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                self.import(prefix, &name, &name, is_reexport);
            }
            UseTree::Rename(rename) => {
                let (name, alias) = (rename.ident.to_string(), rename.rename.to_string());
                self.import(prefix, &name, &alias, is_reexport);
            }
            UseTree::Glob(_) => self.import(prefix, "*", "*", is_reexport),
        }
    }

    fn import(&mut self, prefix: &[String], name: &str, alias: &str, is_reexport: bool) {
        let mut segments = prefix.to_vec();
        let mut alias = alias;
        if name != "self" {
            segments.push(name.to_owned());
        } else if alias == "self" {
            alias = prefix.last().map_or("self", String::as_str);
        }
        let alias = alias.to_owned();
        // In the 2024 edition `use child::Item` names a module of this one as well.
        let resolved = self.resolve(&segments).unwrap_or_else(|| {
            let mut path = self.module.clone();
            path.extend(segments);
            path
        });
        if !is_reexport {
            self.file.uses.push(resolved.clone());
        }
        if self.module == self.file.module {
            self.file.imports.insert(alias, resolved);
        }
    }

    fn declare(&mut self, name: &syn::Ident) {
        let line = name.span().start().line;
        self.file.types.push((name.to_string(), line));
    }

    fn measure(&mut self, name: &syn::Ident, item: &impl syn::spanned::Spanned) {
        let (first_line, lines) = lines_of(item);
        self.file.functions.push(Function {
            name: name.to_string(),
            first_line,
            lines,
        });
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            _ => &[][..],
        };
        if is_test_only(attributes) {
            self.file.lines = self.file.lines.saturating_sub(lines_of(item).1);
            return;
        }
        match item {
            Item::Use(item) => {
                let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
                self.read_use(&item.tree, &mut Vec::new(), is_reexport);
            }
            Item::Mod(module) if module.content.is_some() => {
                self.module.push(module.ident.to_string());
                visit::visit_item_mod(self, module);
                self.module.pop();
            }
            Item::Fn(function) => {
                self.measure(&function.sig.ident, function);
                visit::visit_item(self, item);
            }
            Item::Struct(declared) => {
                self.declare(&declared.ident);
                visit::visit_item(self, item);
            }
            Item::Enum(declared) => {
                self.declare(&declared.ident);
                visit::visit_item(self, item);
            }
            Item::Trait(declared) => {
                self.declare(&declared.ident);
                visit::visit_item(self, item);
            }
            Item::Type(declared) => {
                self.declare(&declared.ident);
                visit::visit_item(self, item);
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if is_test_only(&function.attrs) {
            return;
        }
        self.measure(&function.sig.ident, function);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if let Some(resolved) = self.resolve(&segments)
            && segments.len() > 1
        {
            self.file.uses.push(resolved);
        } else if segments.len() > 1 && !self.file.imports.contains_key(&segments[0]) {
            // `child::item()` in the file that declares the module.
            let mut resolved = self.module.clone();
            resolved.extend(segments);
            self.file.uses.push(resolved);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta
            && (list.path.is_ident("allow") || list.path.is_ident("expect"))
        {
            let arguments = list.tokens.to_string();
            self.file.allows_unsafe |= arguments.contains("unsafe_code");
        }
    }
}

/// The groups of files of a crate that use each other in a circle, each as one line.
///
/// A path that leads through a module's imports counts as a use of the file that declares the item,
/// so a parent may re-export what its children declare.
pub(crate) fn file_cycles(source: &Crate) -> Vec<String> {
    let by_module: HashMap<&[String], usize> = source
        .files
        .iter()
        .enumerate()
        .map(|(index, file)| (file.module.as_slice(), index))
        .collect();
    let mut graph = DiGraph::<usize, ()>::new();
    let nodes: Vec<_> = (0..source.files.len())
        .map(|index| graph.add_node(index))
        .collect();
    for (index, file) in source.files.iter().enumerate() {
        for path in &file.uses {
            if let Some(target) = declaring_file(source, &by_module, path)
                && target != index
            {
                graph.update_edge(nodes[index], nodes[target], ());
            }
        }
    }
    tarjan_scc(&graph)
        .into_iter()
        .filter(|members| members.len() > 1)
        .map(|members| {
            let mut names: Vec<String> = members
                .iter()
                .map(|node| source.files[graph[*node]].shown())
                .collect();
            names.sort();
            names.join(", ")
        })
        .collect()
}

/// The file that declares what a path names, following imports of the modules on its way.
fn declaring_file(
    source: &Crate,
    by_module: &HashMap<&[String], usize>,
    path: &[String],
) -> Option<usize> {
    let mut path = path.to_vec();
    for _ in 0..8 {
        let depth = (0..=path.len())
            .rev()
            .find(|depth| by_module.contains_key(&path[..*depth]))?;
        let file = by_module[&path[..depth]];
        let Some(name) = path.get(depth) else {
            return Some(file);
        };
        let Some(target) = source.files[file].imports.get(name) else {
            // An item of this file, or, at the root, a name of another crate.
            return (depth > 0 || path.len() > depth).then_some(file);
        };
        let rest = path[depth + 1..].to_vec();
        path = target.clone();
        path.extend(rest);
    }
    None
}

#[cfg(test)]
mod checks {
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> Crate {
        let files = files
            .iter()
            .map(|(module, text)| {
                let path = module
                    .split("::")
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect();
                SourceFile::parse(text, path, PathBuf::from(format!("{module}.rs")))
            })
            .collect();
        Crate {
            name: "sample".to_owned(),
            files,
        }
    }

    #[test]
    fn siblings_that_use_each_other_are_a_cycle() {
        let source = crate_of(&[
            ("", "mod a; mod b; pub use a::A;"),
            ("a", "use crate::b::B; pub struct A;"),
            ("b", "pub struct B; fn f() { super::a::g() }"),
        ]);
        assert_eq!(file_cycles(&source), ["a.rs, b.rs"]);
    }

    #[test]
    fn a_reexport_of_a_parent_is_no_cycle() {
        let source = crate_of(&[
            ("", "mod a; mod b; pub use a::A;"),
            ("a", "pub struct A;"),
            (
                "b",
                "use super::A; #[cfg(test)] mod tests { use crate::c::D; }",
            ),
        ]);
        assert!(file_cycles(&source).is_empty());
    }

    #[test]
    fn a_parent_that_uses_its_child_is_a_cycle() {
        let source = crate_of(&[
            ("", "mod a; pub struct Shared; fn f() { a::g() }"),
            ("a", "use super::Shared; pub fn g() {}"),
        ]);
        assert_eq!(file_cycles(&source), [".rs, a.rs"]);
    }

    #[test]
    fn lines_of_tests_are_not_counted() {
        let text = "fn f() {\n}\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
        let file = SourceFile::parse(text, Vec::new(), PathBuf::new());
        assert_eq!(file.lines, 2);
        assert_eq!(file.functions.len(), 1);
    }
}
