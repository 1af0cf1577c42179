"""Drives azure-iot-hub and azure-iot-device as they are.

Commands come in as lines of JSON, {"id", "do", ...}; answers go out as {"id", "value"} or {"id", "error"}, and what
devices hear as {"client", "event", "data"}. Where the hub is comes from the SDKs' own options and from the variables
that every program with `requests` reads, HTTPS_PROXY and REQUESTS_CA_BUNDLE.
"""

import json
import logging
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from azure.core.credentials import AccessToken
from azure.iot.device import (
    IoTHubDeviceClient,
    IoTHubModuleClient,
    Message,
    MethodResponse,
    ProxyOptions,
    X509,
)
from azure.iot.device import exceptions as device_errors
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    Configuration,
    ConfigurationContent,
    ExportImportDevice,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from azure.iot.hub.protocol.models import ConfigurationMetrics
from msrest.exceptions import HttpOperationError

# What the SDKs tell of connections that end is what the tests are about.
logging.disable(logging.CRITICAL)

PLACE = json.loads(sys.argv[1])
OUT = sys.stdout
OUT_LOCK = threading.Lock()


def say(line):
    with OUT_LOCK:
        OUT.write(json.dumps(line) + "\n")
        OUT.flush()


# The service SDK


class Tokens:
    """A credential as azure-identity has them."""

    def __init__(self, token):
        self.token = token

    def get_token(self, *_scopes, **_options):
        return AccessToken(self.token, int(time.time()) + 3600)


def document(model):
    """A model of the SDK as the JSON that it stands for."""
    return model.serialize(keep_readonly=True)


class Service:
    def __init__(self, token):
        if token is None:
            text = PLACE["connectionString"]
            self.registry = IoTHubRegistryManager.from_connection_string(text)
            self.manager = IoTHubConfigurationManager.from_connection_string(text)
        else:
            self.registry = IoTHubRegistryManager.from_token_credential(PLACE["hostName"], Tokens(token))
            self.manager = IoTHubConfigurationManager.from_token_credential(PLACE["hostName"], Tokens(token))

    def create(self, who, registered, iotEdge):
        device, module = who["deviceId"], who["moduleId"]
        registered = registered or {"primaryKey": "", "secondaryKey": ""}
        if registered == "authority":
            if module is None:
                made = self.registry.create_device_with_certificate_authority(device, "enabled", iotEdge)
            else:
                made = self.registry.create_module_with_certificate_authority(device, module, None)
        elif "primaryKey" in registered:
            keys = (registered["primaryKey"], registered["secondaryKey"])
            if module is None:
                made = self.registry.create_device_with_sas(device, *keys, "enabled", iotEdge)
            else:
                made = self.registry.create_module_with_sas(device, module, None, *keys)
        else:
            prints = (registered["primaryThumbprint"], "")
            if module is None:
                made = self.registry.create_device_with_x509(device, *prints, "enabled", iotEdge)
            else:
                made = self.registry.create_module_with_x509(device, module, None, *prints)
        return document(made)

    def _get(self, who):
        if who["moduleId"] is None:
            return self.registry.get_device(who["deviceId"])
        return self.registry.get_module(who["deviceId"], who["moduleId"])

    def get(self, who):
        return document(self._get(who))

    def setStatus(self, deviceId, status):
        device = self.registry.get_device(deviceId)
        proof = device.authentication
        if proof.type == "sas":
            keys = (proof.symmetric_key.primary_key, proof.symmetric_key.secondary_key)
            return document(self.registry.update_device_with_sas(deviceId, device.etag, *keys, status))
        if proof.type == "certificateAuthority":
            after = self.registry.update_device_with_certificate_authority(deviceId, device.etag, status)
            return document(after)
        prints = (proof.x509_thumbprint.primary_thumbprint, proof.x509_thumbprint.secondary_thumbprint)
        return document(self.registry.update_device_with_x509(deviceId, device.etag, *prints, status))

    def setKeys(self, who, keys):
        before = self._get(who)
        keys = (keys["primaryKey"], keys["secondaryKey"])
        if who["moduleId"] is None:
            after = self.registry.update_device_with_sas(who["deviceId"], before.etag, *keys, before.status)
        else:
            after = self.registry.update_module_with_sas(
                who["deviceId"], who["moduleId"], before.managed_by, before.etag, *keys
            )
        return document(after)

    def delete(self, who):
        if who["moduleId"] is None:
            self.registry.delete_device(who["deviceId"])
        else:
            self.registry.delete_module(who["deviceId"], who["moduleId"])

    def modules(self, deviceId):
        return [document(module) for module in self.registry.get_modules(deviceId)]

    def _bulk(self, ids, mode):
        entries = [ExportImportDevice(id=one, import_mode=mode) for one in ids]
        return document(self.registry.bulk_create_or_update_devices(entries))

    def createMany(self, deviceIds):
        return self._bulk(deviceIds, "create")

    def deleteMany(self, deviceIds):
        return self._bulk(deviceIds, "delete")

    def twin(self, who):
        if who["moduleId"] is None:
            return document(self.registry.get_twin(who["deviceId"]))
        return document(self.registry.get_module_twin(who["deviceId"], who["moduleId"]))

    def patchTwin(self, who, patch, etag):
        properties = patch.get("properties")
        twin = Twin(
            tags=patch.get("tags"),
            properties=None if properties is None else TwinProperties(desired=properties["desired"]),
        )
        if who["moduleId"] is None:
            return document(self.registry.update_twin(who["deviceId"], twin, etag))
        return document(self.registry.update_module_twin(who["deviceId"], who["moduleId"], twin, etag))

    def invoke(self, who, call):
        asked = CloudToDeviceMethod(
            method_name=call["method"],
            payload=call.get("payload"),
            response_timeout_in_seconds=call.get("responseTimeoutInSeconds"),
            connect_timeout_in_seconds=call.get("connectTimeoutInSeconds"),
        )
        if who["moduleId"] is None:
            result = self.registry.invoke_device_method(who["deviceId"], asked)
        else:
            result = self.registry.invoke_device_module_method(who["deviceId"], who["moduleId"], asked)
        return {"status": result.status, "payload": result.payload}

    def query(self, sql, pageSize):
        pages, token = [], None
        while not pages or token:
            result = self.registry.query_iot_hub(QuerySpecification(query=sql), token, pageSize)
            pages.append([document(item) for item in result.items])
            token = result.continuation_token
        return pages

    def statistics(self):
        return document(self.registry.get_device_registry_statistics())

    def _configuration(self, written):
        metrics = written.get("metrics") or {}
        return Configuration(
            id=written["id"],
            schema_version="1.0",
            labels=written.get("labels"),
            content=ConfigurationContent(device_content=written["content"]["deviceContent"]),
            target_condition=written["targetCondition"],
            priority=written["priority"],
            metrics=ConfigurationMetrics(queries=metrics.get("queries")),
        )

    def createConfiguration(self, configuration):
        return document(self.manager.create_configuration(self._configuration(configuration)))

    def configuration(self, configurationId):
        return document(self.manager.get_configuration(configurationId))

    def configurations(self):
        return [document(one) for one in self.manager.get_configurations()]

    def updateConfiguration(self, configuration):
        changed = self._configuration(configuration)
        return document(self.manager.update_configuration(changed, configuration["etag"]))

    def deleteConfiguration(self, configurationId):
        self.manager.delete_configuration(configurationId)

    def applyContent(self, deviceId, modulesContent):
        content = ConfigurationContent(modules_content=modulesContent)
        self.manager.apply_configuration_on_edge_device(deviceId, content)


# The device SDK


class Device:
    def __init__(self, name, who, credential, transport, comesBack, ca):
        self.name = name
        self.asked = {}
        self.answers = set()
        self.client = self._client(who, credential, transport, comesBack, ca)
        self.client.on_connection_state_change = self._state

    def _client(self, who, credential, transport, comes_back, ca):
        module = who["moduleId"] is not None
        kind = IoTHubModuleClient if module else IoTHubDeviceClient
        options = {
            "server_verification_cert": ca,
            "websockets": transport == "MQTT over WebSockets",
            "proxy_options": ProxyOptions(
                proxy_type="HTTP", proxy_addr="127.0.0.1", proxy_port=PLACE["proxyPort"]
            ),
            "connection_retry": comes_back,
            "connection_retry_interval": 1,
            "auto_connect": False,
        }
        host = PLACE["hostName"]
        if credential["kind"] == "token":
            return kind.create_from_sastoken(credential["token"], **options)
        if credential["kind"] == "key":
            named = f"DeviceId={who['deviceId']}" + (f";ModuleId={who['moduleId']}" if module else "")
            text = f"HostName={host};{named};SharedAccessKey={credential['key']}"
            if "seconds" in credential:
                options["sastoken_ttl"] = credential["seconds"]
            return kind.create_from_connection_string(text, **options)
        files = []
        for part in ("cert", "key"):
            handle, path = tempfile.mkstemp(dir=PLACE["directory"])
            os.write(handle, credential[part].encode())
            os.close(handle)
            files.append(path)
        x509 = X509(cert_file=files[0], key_file=files[1])
        ids = [who["deviceId"]] + ([who["moduleId"]] if module else [])
        return kind.create_from_x509_certificate(x509, host, *ids, **options)

    def _tell(self, event, data):
        say({"client": self.name, "event": event, "data": data})

    def _state(self):
        self._tell("connected", self.client.connected)

    def open(self):
        self.client.connect()

    def close(self):
        self.client.shutdown()

    def twin(self):
        return self.client.get_twin()

    def report(self, patch):
        self.client.patch_twin_reported_properties(patch)

    def send(self, message):
        sent = Message(message["body"])
        sent.message_id = message.get("messageId")
        sent.correlation_id = message.get("correlationId")
        sent.content_type = message.get("contentType")
        sent.content_encoding = message.get("contentEncoding")
        sent.custom_properties = message.get("properties", {})
        self.client.send_message(sent)

    def listenToDesired(self):
        self.client.on_twin_desired_properties_patch_received = lambda patch: self._tell("desired", patch)

    def listenToMessages(self):
        self.client.on_message_received = lambda message: self._tell(
            "message",
            {
                "body": message.data.decode(),
                "messageId": message.message_id,
                "correlationId": message.correlation_id,
                "properties": message.custom_properties,
            },
        )

    def listenToMethods(self):
        def asked(request):
            self.asked[request.request_id] = request
            data = {"request": request.request_id, "method": request.name, "payload": request.payload}
            self._tell("method", data)

        if self.client.on_method_request_received is None:
            self.client.on_method_request_received = asked

    def respond(self, request, status, payload):
        response = MethodResponse.create_from_method_request(self.asked.pop(request), status, payload)
        self.client.send_method_response(response)


SERVICES = {}
DEVICES = {}


def carry_out(command):
    kind, _, verb = command.pop("do").partition(".")
    target = command.pop("on", None)
    if verb == "new" and kind == "service":
        SERVICES[target] = Service(**command)
        return None
    if verb == "new":
        DEVICES[target] = Device(target, **command)
        return None
    return getattr((SERVICES if kind == "service" else DEVICES)[target], verb)(**command)


def refusal_of(problem):
    if isinstance(problem, HttpOperationError):
        response = problem.response
        return {"status": response.status_code, "code": response.headers.get("iothub-errorcode", "")}
    return {
        "unauthorized": isinstance(problem, device_errors.CredentialError),
        "message": f"{type(problem).__name__}: {problem} {problem.__cause__ or ''}",
    }


def serve(line):
    command = json.loads(line)
    number = command.pop("id")
    try:
        say({"id": number, "value": carry_out(command)})
    except Exception as problem:
        say({"id": number, "error": refusal_of(problem)})


with ThreadPoolExecutor(64) as pool:
    for written in sys.stdin:
        pool.submit(serve, written)
os._exit(0)
