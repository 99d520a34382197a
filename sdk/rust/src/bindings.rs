//! `generate!` and nothing else. Public only for the expansion of the attributes.
//!
//! What is sent is borrowed, what is received is owned: a message is not copied on its way out.
//!
//! The host delivers just what a component exports, so whatever a plugin may leave out is a world
//! of its own. The first has every import of all of them, and the exports of each handler; what a
//! component does not call vanishes from it.

wit_bindgen::generate!({
    inline: "
        package tidegate:sdk;
        world handler {
            include tidegate:plugin/handler@0.1.0;
            import tidegate:plugin/hub@0.1.0;
            export tidegate:plugin/worker-events@0.1.0;
        }
    ",
    path: "../../wit",
    world: "tidegate:sdk/handler",
    ownership: Borrowing { duplicate_if_necessary: true },
    pub_export_macro: true,
    export_macro_name: "export_handler",
    default_bindings_module: "tidegate_sdk::bindings",
    generate_all,
});

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

/// Who may come, beside a handler.
pub mod handshake {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-handshake;
            world handshake {
                export tidegate:plugin/handshake-events@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-handshake/handshake",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_handshake",
        default_bindings_module: "tidegate_sdk::bindings::handshake",
    });
}

/// Timers that run out, beside a handler.
pub mod timer {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-timer;
            world timer {
                export tidegate:plugin/timer-events@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-timer/timer",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_timer",
        default_bindings_module: "tidegate_sdk::bindings::timer",
    });
}

/// Work beside the events of clients, beside a handler.
pub mod task {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-task;
            world task {
                export tidegate:plugin/task-events@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-task/task",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_task",
        default_bindings_module: "tidegate_sdk::bindings::task",
    });
}

/// Buffers that fill and drain, beside a handler.
pub mod buffer {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-buffer;
            world buffer {
                export tidegate:plugin/buffer-events@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-buffer/buffer",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_buffer",
        default_bindings_module: "tidegate_sdk::bindings::buffer",
    });
}

/// Messages of other instances, beside a handler.
pub mod peer {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-peer;
            world peer {
                export tidegate:plugin/peer-events@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-peer/peer",
        pub_export_macro: true,
        export_macro_name: "export_peer",
        default_bindings_module: "tidegate_sdk::bindings::peer",
    });
}

/// Requests by HTTP, beside a handler.
pub mod http {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-http;
            world http {
                export wasi:http/incoming-handler@0.2.12;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-http/http",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_http",
        default_bindings_module: "tidegate_sdk::bindings::http",
    });
}

/// Memory for a successor, beside a handler.
pub mod state {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-state;
            world state {
                export tidegate:plugin/state@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-state/state",
        pub_export_macro: true,
        export_macro_name: "export_state",
        default_bindings_module: "tidegate_sdk::bindings::state",
    });
}

/// A command component.
pub mod command {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-command;
            world command {
                export tidegate:plugin/commands@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-command/command",
        pub_export_macro: true,
        export_macro_name: "export_command",
        default_bindings_module: "tidegate_sdk::bindings::command",
    });
}

/// A codec.
pub mod codec {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-codec;
            world codec {
                export tidegate:plugin/framing@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-codec/codec",
        pub_export_macro: true,
        export_macro_name: "export_codec",
        default_bindings_module: "tidegate_sdk::bindings::codec",
        generate_all,
    });
}

/// A router.
pub mod router {
    wit_bindgen::generate!({
        inline: "
            package tidegate:sdk-router;
            world router {
                export tidegate:plugin/routing@0.1.0;
            }
        ",
        path: "../../wit",
        world: "tidegate:sdk-router/router",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_router",
        default_bindings_module: "tidegate_sdk::bindings::router",
    });
}
