//! Imports: staged, fetched, converted, refused.

use std::process::Command;

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::world::{World, create, on_each_db, queued, show};

async fn stage(client: &Client, id: &str, data: impl Into<Body>) -> Response {
    let path = format!("/image/v2/images/{id}/stage");
    client.send_body(Method::PUT, &path, Some("application/octet-stream"), data.into()).await
}

async fn import(client: &Client, id: &str, method: Value) -> Response {
    client.post(&format!("/image/v2/images/{id}/import"), json!({"method": method})).await
}

async fn newest_task(client: &Client, id: &str) -> Value {
    client.get(&format!("/image/v2/images/{id}/tasks")).await.expect(200).json["tasks"][0].clone()
}

#[tokio::test]
async fn staged_data_becomes_the_images() {
    on_each_db(|world| async move {
        let (blue, red) = (world.blue(), world.red());
        let id = queued(&blue, "raw", "private").await;
        import(&blue, &id, json!({"name": "glance-direct"})).await.expect(409);
        stage(&red, &id, "data").await.expect(404);
        stage(&blue, &id, "data").await.expect(204);
        assert_eq!(show(&blue, &id).await.json["status"], "uploading");
        stage(&blue, &id, "data").await.expect(409);
        let usage = blue.get("/image/v2/info/usage").await.expect(200).json["usage"].clone();
        assert_eq!(
            (&usage["image_count_uploading"]["usage"], &usage["image_size_total"]["usage"]),
            (&json!(1), &json!(0))
        );
        world.engine.settle().await.unwrap();
        assert_eq!(world.doctor().await, Vec::<String>::new());
        import(&red, &id, json!({"name": "glance-direct"})).await.expect(404);
        import(&blue, &id, json!({"name": "glance-direct"})).await.expect(202);
        assert_eq!(show(&blue, &id).await.json["os_glance_importing_to_stores"], "file");
        world.imported(&id).await;
        let shown = show(&blue, &id).await.json;
        assert_eq!((&shown["status"], &shown["stores"], &shown["size"]), (&json!("active"), &json!("file"), &json!(4)));
        assert_eq!(
            (&shown["os_glance_importing_to_stores"], &shown["os_glance_failed_import"]),
            (&json!(""), &json!(""))
        );
        let data = blue.get(&format!("/image/v2/images/{id}/file")).await.expect(200);
        assert_eq!(data.body, "data");
        let task = newest_task(&blue, &id).await;
        assert_eq!((&task["status"], &task["type"]), (&json!("success"), &json!("api_image_import")));
        assert_eq!(task["input"]["import_req"]["method"]["name"], "glance-direct");
        red.get(&format!("/image/v2/images/{id}/tasks")).await.expect(404);
        blue.get("/image/v2/tasks").await.expect(403);
        let all = world.admin().get("/image/v2/tasks?status=success").await.expect(200).json;
        assert_eq!(all["tasks"][0]["id"], task["id"]);
        let path = format!("/image/v2/tasks/{}", task["id"].as_str().unwrap());
        assert_eq!(world.admin().get(&path).await.expect(200).json["result"]["image_id"], id.as_str());
        blue.get(&path).await.expect(403);
        world.admin().get("/image/v2/tasks/none").await.expect(404);
        blue.delete(&format!("/image/v2/stores/file/{id}")).await.expect(403);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_an_import_needs() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let bare = create(&blue, json!({"name": "no formats"})).await;
        import(&blue, &bare, json!({"name": "web-download", "uri": "http://example.org/"})).await.expect(400);
        stage(&blue, &bare, "x").await.expect(400);
        let id = queued(&blue, "raw", "private").await;
        for (method, status) in [
            (json!({"name": "web-download", "uri": "gopher://example.org/"}), 400),
            (json!({"name": "web-download"}), 400),
            (json!({"name": "copy-image"}), 400),
            (json!({"name": "glance-direct"}), 409),
        ] {
            import(&blue, &id, method).await.expect(status);
        }
        let signed = create(
            &blue,
            json!({
                "disk_format": "raw", "container_format": "bare", "img_signature": "x",
                "img_signature_hash_method": "SHA-256", "img_signature_key_type": "RSA-PSS",
                "img_signature_certificate_uuid": "0f9c9a80-7c2b-4b62-9a4e-9dbb0f0b9d0f"
            }),
        )
        .await;
        let refused = stage(&blue, &signed, "x").await.expect(400);
        assert!(refused.json["message"].as_str().unwrap().contains("key manager"));
    })
    .await;
}

/// A server that answers each connection with the next of these, and its address.
async fn web(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(socket.read(&mut request).await.unwrap() > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn data_from_the_web() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let found = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned();
        let moved = "HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n".to_owned();
        let outside = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_owned();
        let short = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello".to_owned();
        let table = [
            (web(vec![found.clone()]).await, Ok(())),
            (web(vec![moved, found]).await, Ok(())),
            (web(vec!["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into()]).await, Err("answers 404")),
            (web(vec![outside]).await, Err("169.254.169.254 is not an address of the internet")),
            (web(vec![short]).await, Err("broke off")),
            ("http://10.0.0.1/".to_owned(), Err("10.0.0.1 is not an address of the internet")),
            ("http://[::ffff:192.168.0.1]/".to_owned(), Err("is not an address of the internet")),
        ];
        for (uri, expected) in table {
            let id = queued(&blue, "raw", "private").await;
            import(&blue, &id, json!({"name": "web-download", "uri": uri})).await.expect(202);
            world.imported(&id).await;
            let (shown, task) = (show(&blue, &id).await.json, newest_task(&blue, &id).await);
            match expected {
                Ok(()) => {
                    assert_eq!(
                        (&shown["status"], &task["status"]),
                        (&json!("active"), &json!("success")),
                        "{uri}: {task}"
                    );
                    assert_eq!(shown["size"], 5);
                }
                Err(why) => {
                    assert_eq!((&shown["status"], &task["status"]), (&json!("queued"), &json!("failure")), "{uri}");
                    assert_eq!(shown["os_glance_failed_import"], "file");
                    assert!(task["message"].as_str().unwrap().contains(why), "{uri}: {task}");
                }
            }
        }
        world.engine.settle().await.unwrap();
        assert_eq!(world.files().len(), 2);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

/// A disk image of this format, of a disk of 8 MiB that begins with `here`.
fn disk(world: &World, format: &str, options: &str) -> Vec<u8> {
    let (raw, made) = (world.folder.path().with_extension("raw"), world.folder.path().with_extension(format));
    let mut content = vec![0; 8 << 20];
    content[..4].copy_from_slice(b"here");
    std::fs::write(&raw, content).unwrap();
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", format]);
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    assert!(command.arg(&raw).arg(&made).status().unwrap().success());
    let bytes = std::fs::read(&made).unwrap();
    std::fs::remove_file(raw).unwrap();
    std::fs::remove_file(made).unwrap();
    bytes
}

#[tokio::test]
async fn other_programs_formats_are_converted() {
    on_each_db(|world| async move {
        let blue = world.blue();
        for (format, qemu, options) in [
            ("vmdk", "vmdk", "subformat=monolithicSparse"),
            ("vmdk", "vmdk", "subformat=streamOptimized"),
            ("vdi", "vdi", ""),
            ("vhd", "vpc", ""),
            ("vhdx", "vhdx", ""),
        ] {
            let id = queued(&blue, format, "private").await;
            stage(&blue, &id, disk(&world, qemu, options)).await.expect(204);
            import(&blue, &id, json!({"name": "glance-direct"})).await.expect(202);
            world.imported(&id).await;
            let shown = show(&blue, &id).await.json;
            let task = newest_task(&blue, &id).await;
            assert_eq!(
                (&shown["status"], &shown["disk_format"]),
                (&json!("active"), &json!("qcow2")),
                "{format}: {task}"
            );
            assert!(shown["virtual_size"].as_u64().unwrap() >= 8 << 20, "{format}");
            let data = blue.get(&format!("/image/v2/images/{id}/file")).await.expect(200).body;
            assert_eq!((&data[..4], data.len() as u64), (&b"QFI\xfb"[..], shown["size"].as_u64().unwrap()));
            blue.delete(&format!("/image/v2/images/{id}")).await.expect(204);
            world.engine.settle().await.unwrap();
        }
        assert_eq!(world.files(), Vec::<String>::new());
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

/// Whatever is wrong with it, it is refused with its reason, and nothing of it stays.
#[tokio::test]
async fn hostile_images() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let patched = |mut bytes: Vec<u8>, at: usize, patch: &[u8]| {
            bytes[at..at + patch.len()].copy_from_slice(patch);
            bytes
        };
        let qcow2 = disk(&world, "qcow2", "");
        let vmdk = disk(&world, "vmdk", "subformat=monolithicSparse");
        let vdi = disk(&world, "vdi", "");
        let vhd = disk(&world, "vpc", "");
        let replaced = |bytes: &[u8], from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            patched(bytes.to_vec(), at, to)
        };
        let flat =
            b"# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"/etc/shadow\" 0\n".to_vec();
        let backed = patched(patched(qcow2.clone(), 8, &512_u64.to_be_bytes()), 16, &11_u32.to_be_bytes());
        type Case = (&'static str, &'static str, Vec<u8>, &'static str);
        let at_once: Vec<Case> = vec![
            ("backing file", "qcow2", backed, "backing file"),
            ("external data", "qcow2", patched(qcow2.clone(), 72, &4_u64.to_be_bytes()), "external data file"),
            ("oversized", "qcow2", patched(qcow2.clone(), 24, &u64::MAX.to_be_bytes()), "virtual size"),
            ("encrypted", "qcow2", patched(qcow2.clone(), 32, &1_u32.to_be_bytes()), "encrypted"),
            ("nested: qcow2 as raw", "raw", qcow2.clone(), "the content is qcow2"),
            ("mismatch: raw as qcow2", "qcow2", vec![1; 4096], "the content is raw"),
            ("mismatch: vmdk as vdi", "vdi", vmdk.clone(), "the content is vmdk"),
            ("mismatch: vdi as raw", "raw", vdi.clone(), "the content is vdi"),
            ("gzip bomb", "raw", b"\x1f\x8b\x08................".to_vec(), "compressed by gzip"),
            ("vmdk: description only", "vmdk", flat, "hold their data themselves"),
            ("vmdk: no capacity", "vmdk", patched(vmdk.clone(), 12, &[0; 8]), "no capacity"),
            ("vmdk: huge", "vmdk", patched(vmdk.clone(), 12, &(1_u64 << 50).to_le_bytes()), "larger than 16 TiB"),
            ("vmdk: parent", "vmdk", replaced(&vmdk, b"parentCID=ffffffff", b"parentCID=12345678"), "parent"),
            ("vmdk: another file", "vmdk", replaced(&vmdk, b" SPARSE ", b" FLAT   "), "another file"),
            ("vmdk: other type", "vmdk", replaced(&vmdk, b"monolithicSparse", b"vmfsSparseFormat"), "supported"),
            ("vdi: differencing", "vdi", patched(vdi.clone(), 76, &[4]), "parent"),
            ("vdi: huge", "vdi", patched(vdi.clone(), 368, &u64::MAX.to_le_bytes()), "larger than 16 TiB"),
            ("vhd: differencing", "vhd", patched(vhd.clone(), 60, &4_u32.to_be_bytes()), "parent"),
        ];
        for (name, format, bytes, why) in at_once {
            let id = queued(&blue, format, "private").await;
            let refused = stage(&blue, &id, bytes).await.expect(415);
            let message = refused.json["message"].as_str().unwrap().to_owned();
            assert!(message.contains(why), "{name}: {message}");
            assert_eq!(show(&blue, &id).await.json["status"], "queued", "{name}");
        }
        // What only the tool finds out.
        let later: Vec<Case> = vec![
            ("vdi: map out of bounds", "vdi", patched(vdi.clone(), 384, &u32::MAX.to_le_bytes()), "can't be converted"),
            ("vhdx: only its name", "vhdx", patched(vec![0; 1 << 20], 0, b"vhdxfile"), "can't be converted"),
            ("vmdk: cut off", "vmdk", vmdk[..12_000].to_vec(), "can't be converted"),
        ];
        for (name, format, bytes, why) in later {
            let id = queued(&blue, format, "private").await;
            stage(&blue, &id, bytes).await.expect(204);
            import(&blue, &id, json!({"name": "glance-direct"})).await.expect(202);
            world.imported(&id).await;
            let task = newest_task(&blue, &id).await;
            assert!(task["message"].as_str().unwrap().contains(why), "{name}: {task}");
            assert_eq!(show(&blue, &id).await.json["status"], "queued", "{name}");
        }
        world.engine.settle().await.unwrap();
        assert_eq!(world.files(), Vec::<String>::new());
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}
