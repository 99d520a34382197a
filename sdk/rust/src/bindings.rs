//! `generate!` and nothing else. Public only for the expansion of the attributes.
//!
//! What is sent is borrowed, what is received is owned: a message is not copied on its way out.
//!
//! The host delivers just what a component exports, so there is one world for each part that a plugin
//! exports or leaves out. They share the imports; what a component does not call vanishes from it.

wit_bindgen::generate!({
    inline: "
        package tidegate:sdk-imports;
        world imports {
            include tidegate:plugin/full-handler@0.1.0;
            include tidegate:plugin/command@0.1.0;
        }
    ",
    path: "../../wit",
    world: "tidegate:sdk-imports/imports",
    ownership: Borrowing { duplicate_if_necessary: true },
    generate_all,
});

/// A handler's part.
pub mod handler {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-handler;
            world handler {
                include tidegate:plugin/handler@0.1.0;
                export tidegate:plugin/worker-events@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-handler/handler",
        ownership: Borrowing { duplicate_if_necessary: true },
        pub_export_macro: true,
        export_macro_name: "export_handler",
        default_bindings_module: "tidegate_sdk::bindings::handler",
        with: {
            "tidegate:plugin/types@0.1.0": crate::bindings::tidegate::plugin::types,
            "tidegate:plugin/gateway@0.1.0": crate::bindings::tidegate::plugin::gateway,
            "tidegate:plugin/session@0.1.0": crate::bindings::tidegate::plugin::session,
            "tidegate:plugin/directory@0.1.0": crate::bindings::tidegate::plugin::directory,
            "tidegate:plugin/worker@0.1.0": crate::bindings::tidegate::plugin::worker,
            "wasi:logging/logging@0.1.0-draft": crate::bindings::wasi::logging::logging,
            "wasi:config/store@0.2.0-rc.1": crate::bindings::wasi::config::store,
        },
    });
}

/// Requests, beside a handler.
pub mod requests {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-requests;
            world requests {
                export tidegate:plugin/request-events@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-requests/requests",
        pub_export_macro: true,
        export_macro_name: "export_requests",
        default_bindings_module: "tidegate_sdk::bindings::requests",
    });
}

/// A command component.
pub mod command {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "command",
        ownership: Borrowing { duplicate_if_necessary: true },
        pub_export_macro: true,
        export_macro_name: "export_command",
        default_bindings_module: "tidegate_sdk::bindings::command",
        with: {
            "tidegate:plugin/types@0.1.0": crate::bindings::tidegate::plugin::types,
            "tidegate:plugin/gateway@0.1.0": crate::bindings::tidegate::plugin::gateway,
            "tidegate:plugin/directory@0.1.0": crate::bindings::tidegate::plugin::directory,
            "tidegate:plugin/hub@0.1.0": crate::bindings::tidegate::plugin::hub,
            "wasi:logging/logging@0.1.0-draft": crate::bindings::wasi::logging::logging,
            "wasi:config/store@0.2.0-rc.1": crate::bindings::wasi::config::store,
        },
    });
}
