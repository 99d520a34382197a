//! The names that a component imports and exports, read before anything is compiled: a large
//! component that cannot run here is refused at once.

use wasmparser::{Parser, Payload};

/// What the outermost component imports and exports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// None for what does not parse: the compiler says better what is wrong with it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "sections of any other kind, also future ones, have no names of the component"
)]
pub(super) fn of(bytes: &[u8]) -> Option<Names> {
    let mut names = Names::default();
    // How many modules and components the parser is in.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.imports.push(import.ok()?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    names.exports.push(export.ok()?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_inner_components_and_modules_are_not_those_of_the_component() {
        let bytes = wat::parse_str(
            r#"(component
                (import "a:b/c@1.0.0" (instance))
                (component (import "inner" (func)) (export "inner-too" (func 0)))
                (core module (import "m" "f" (func)) (export "g" (func 0)))
                (instance $i)
                (export "d:e/f" (instance $i)))"#,
        );
        let bytes = bytes.unwrap();
        let names = of(&bytes).unwrap();
        assert_eq!(names.imports, ["a:b/c@1.0.0"]);
        assert_eq!(names.exports, ["d:e/f"]);
        assert_eq!(of(&bytes[..bytes.len() - 1]), None);
    }
}
