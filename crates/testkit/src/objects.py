"""Prints key<TAB>size<TAB>sha256 of every object below a prefix: usage: objects.py ENDPOINT ACCESS SECRET BUCKET PREFIX"""
import hashlib, sys
import boto3
from botocore.config import Config

endpoint, access, secret, bucket, prefix = sys.argv[1:]
config = Config(s3={"addressing_style": "path"}, proxies={})
client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret,
                      region_name="us-east-1", config=config)
for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
    for item in page.get("Contents", []):
        body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        print(item["Key"], item["Size"], hashlib.sha256(body).hexdigest(), sep="\t")
