# Reads OpenStack's meta_data.json; writes the instance's uuid, its host name, then its public keys, a line each.
# Values are taken by where they stand: uuid and hostname at the top, and every string inside public_keys.

{ text = text $0 " " }

END {
    while (match(text, /"([^"\\]|\\.)*"|[][{}:,]/)) {
        token = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        if (token == "{" || token == "[") { path[++depth] = name; value = 0 }
        else if (token == "}" || token == "]") { depth--; value = 0 }
        else if (token == ":") value = 1
        else if (token == ",") value = 0
        else if (!value) name = string(token)
        else if (depth == 1) top[name] = string(token)
        else if (depth == 2 && path[2] == "public_keys") keys = keys string(token) "\n"
    }
    print top["uuid"]
    print top["hostname"]
    printf "%s", keys
}

# Newlines at the end of a key are common, other escapes are not.
function string(token) {
    token = substr(token, 2, length(token) - 2)
    gsub(/\\n/, "", token)
    gsub(/\\"/, "\"", token)
    gsub(/\\\//, "/", token)
    gsub(/\\\\/, "\\", token)
    return token
}
