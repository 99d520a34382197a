//! The contract in `wit/` as Rust types, and nothing else.

/// What a plugin may import, beside `wasi:cli` and its kin and `wasi:config`. What asks may wait,
/// everything else answers at once.
pub(crate) mod imports {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package tidegate:host-imports;
            world imports {
                import tidegate:plugin/client@0.1.0;
                import tidegate:plugin/directory@0.1.0;
                import tidegate:plugin/gateway@0.1.0;
                import tidegate:plugin/hub@0.1.0;
                import tidegate:plugin/peers@0.1.0;
                import tidegate:plugin/session@0.1.0;
                import tidegate:plugin/tasks@0.1.0;
                import tidegate:plugin/timers@0.1.0;
                import tidegate:plugin/worker@0.1.0;
                import wasi:logging/logging@0.1.0-draft;
            }
        ",
        imports: {
            "tidegate:plugin/directory": async,
            "tidegate:plugin/hub": async,
            "tidegate:plugin/tasks.commit": async,
            "tidegate:plugin/timers.waiting": async,
        },
    });
}

/// What a plugin may export. Each interface is looked up by itself, by its own indices; the world
/// as a whole is never asked for. Arguments are borrowed: a payload is copied once, into the guest.
///
/// `every-type` is exported by nobody: the macro writes types that borrow only for types that some
/// argument uses, and would stumble over the others.
pub(crate) mod exports {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package tidegate:host-exports;
            interface every-type {
                use tidegate:plugin/types@0.1.0.{json, error, close-frame};
                argument: func(json: json, error: error, frame: close-frame);
            }
            world exports {
                export every-type;
                export tidegate:plugin/buffer-events@0.1.0;
                export tidegate:plugin/client-events@0.1.0;
                export tidegate:plugin/commands@0.1.0;
                export tidegate:plugin/handshake-events@0.1.0;
                export tidegate:plugin/peer-events@0.1.0;
                export tidegate:plugin/request-events@0.1.0;
                export tidegate:plugin/routing@0.1.0;
                export tidegate:plugin/state@0.1.0;
                export tidegate:plugin/task-events@0.1.0;
                export tidegate:plugin/timer-events@0.1.0;
                export tidegate:plugin/worker-events@0.1.0;
            }
        ",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// What a codec exports. By itself: here messages are results too, which gives their type two names.
pub(crate) mod codec {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package tidegate:host-codec;
            interface every-type {
                use tidegate:plugin/types@0.1.0.{
                    client-id, uid, group, timer-id, task-id, json, error, peer, http-request,
                    close-frame, close-reason
                };
                argument: func(
                    client: client-id, uid: uid, group: group, timer: timer-id, task: task-id,
                    json: json, error: error, peer: peer, http: http-request, frame: close-frame,
                    reason: close-reason
                );
            }
            world codec {
                export every-type;
                export tidegate:plugin/framing@0.1.0;
            }
        ",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}
