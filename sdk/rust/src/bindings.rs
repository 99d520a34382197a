//! `generate!` and nothing else. Public only for the expansion of the attribute.
//!
//! What is sent is borrowed, what is received is owned: a message is not copied on its way out.

wit_bindgen::generate!({
    path: "../../wit",
    world: "full-handler",
    ownership: Borrowing { duplicate_if_necessary: true },
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "tidegate_sdk::bindings",
    generate_all,
});
