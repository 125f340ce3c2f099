/**
 * Chat templates in the manner of published models, shortened where that does not change how a message's text depends on others.
 */
export const LOCAL_TEMPLATES: Readonly<Record<string, string>> = {
  chatml:
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}" +
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
  smollm2:
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}" +
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" +
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
  llama2:
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}" +
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}" +
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}" +
    "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}" +
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}" +
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
  llama3:
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + " +
    "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}" +
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
  gemma:
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" +
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}" +
    "{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}" +
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}" +
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
  qwen25:
    "{%- if tools %}\n    {{- '<|im_start|>system\n' }}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- messages[0]['content'] }}\n" +
    "    {%- endif %}\n    {%- for tool in tools %}\n        {{- \"\n\" }}\n        {{- tool | tojson }}\n    {%- endfor %}\n    {{- '<|im_end|>\n' }}\n" +
    "{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}\n" +
    "    {%- endif %}\n{%- endif %}\n{%- for message in messages %}\n" +
    '    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}\n' +
    "        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}\n    {%- elif message.role == \"assistant\" %}\n" +
    "        {{- '<|im_start|>' + message.role }}\n        {%- for tool_call in message.tool_calls %}\n" +
    "            {%- if tool_call.function is defined %}\n                {%- set tool_call = tool_call.function %}\n            {%- endif %}\n" +
    '            {{- \'\n<tool_call>\n{"name": "\' }}\n            {{- tool_call.name }}\n            {{- tool_call.arguments | tojson }}\n' +
    "            {{- '}\n</tool_call>' }}\n        {%- endfor %}\n        {{- '<|im_end|>\n' }}\n    {%- elif message.role == \"tool\" %}\n" +
    "        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}\n            {{- '<|im_start|>user' }}\n        {%- endif %}\n" +
    "        {{- '\n<tool_response>\n' }}\n        {{- message.content }}\n        {{- '\n</tool_response>' }}\n" +
    "        {%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}\n            {{- '<|im_end|>\n' }}\n        {%- endif %}\n" +
    "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n{%- endif %}\n",
  alternating:
    "{% for m in messages %}{% if not loop.first and loop.previtem.role == m.role %}{{ raise_exception('Roles must alternate') }}{% endif %}" +
    "<{{ m.role }}>{{ m.content }}{% endfor %}",
  neighbours:
    "{{ messages[1].role if messages[1] is defined else '-' }}{% for m in messages %}[{{ loop.previtem.role if loop.previtem is defined else '^' }}" +
    "{{ messages[loop.index0 - 1].content }}>{{ m.role }}:{{ m.content }}<{{ loop.nextitem.content if not loop.last else '$' }}" +
    "{{ loop.index % 2 }}{{ messages[0].role }}]{% endfor %}{{ messages[-1].role }}",
};

/** Templates in which a message's text may depend on any other, or on something else that is not the same each time. */
export const OTHER_TEMPLATES: Readonly<Record<string, string>> = {
  "looks for the last question":
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}" +
    "{% for message in messages %}{% if loop.index0 > ns.last %}{{ message.content }}{% endif %}{% endfor %}",
  "carries state in a namespace":
    "{% set ns = namespace(n=0) %}{% for message in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ message.content }}{% endfor %}",
  "carries state in a variable":
    "{% for message in messages %}{{ before }}{% set before = message.content %}{{ message.content }}{% endfor %}",
  "sets a variable in one branch only":
    "{% for message in messages %}{% if message.role == 'user' %}{% set who = 'u' %}{% endif %}{{ who }}{{ message.content }}{% endfor %}",
  "numbers the messages": "{% for message in messages %}{{ loop.index }}{{ message.content }}{% endfor %}",
  "counts from the end": "{% for message in messages %}{{ loop.revindex }}{{ message.content }}{% endfor %}",
  "counts the messages":
    "{% for message in messages %}{{ messages | length }}{{ message.content }}{% endfor %}",
  "counts them before":
    "{% set n = messages | length %}{% for message in messages %}{{ n }}{{ message.content }}{% endfor %}",
  "looks at the last one":
    "{% for message in messages %}{{ messages[-1].role }}{{ message.content }}{% endfor %}",
  "looks two back":
    "{% for message in messages %}{{ messages[loop.index0 - 2].role }}{{ message.content }}{% endfor %}",
  "filters the messages":
    "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}",
  "skips messages":
    "{% for message in messages %}{% if message.role == 'tool' %}{% continue %}{% endif %}{{ message.content }}{% endfor %}",
  "leaves two out":
    "{% set a = messages[1:] %}{% set b = a[1:] %}{% for message in b %}{{ message.content }}{% endfor %}",
  "goes backwards": "{% for message in messages[::-1] %}{{ message.content }}{% endfor %}",
  "counts behind the loop":
    "{% for message in messages %}{{ message.content }}{% endfor %}{% set all = messages %}{{ all | length }}",
  "goes over them twice":
    "{% for message in messages %}{{ message.content }}{% endfor %}{% for message in messages %}{{ message.role }}{% endfor %}",
  "uses a macro":
    "{% macro show(m) %}{{ m.content }}{% endmacro %}{% for message in messages %}{{ show(message) }}{% endfor %}",
  "writes today's date":
    "{% if date is not defined %}{% if strftime_now is defined %}{% set date = strftime_now('%S') %}{% else %}{% set date = 'x' %}{% endif %}{% endif %}" +
    "{% for message in messages %}{{ date }}{{ message.content }}{% endfor %}",
  "knows no messages": "{{ bos_token }}",
};
